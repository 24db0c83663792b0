// Package quota limits what one archive or one layer may unpack to: a few kilobytes can expand to terabytes of zeros, or to
// names and attributes that fill the memory. It limits the contexts that clients send, too.
package quota

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/docker/go-units"
)

// Setting is the environment variable that sets the limit: a size as in Docker ("200g"), or 0 for no limit.
const Setting = "MICA_MAX_UNPACKED_SIZE"

const (
	// DefaultBytes is larger than the largest layers in use (models and toolchains of some ten GiB). To hash as many
	// zeros takes about 40 s.
	DefaultBytes = 64 << 30
	// Entries is the largest number of files in an archive.
	Entries = 4_000_000
	// MaxMetadata limits the names, link targets and attributes of an archive together, in bytes.
	MaxMetadata = 512 << 20
	// attribute is the memory that an extended attribute needs beside its name and value, in bytes.
	attribute = 64
)

// ErrExceeded is the error of an archive or a layer that exceeds a limit.
var ErrExceeded = errors.New("too large")

// exceeded is an ErrExceeded whose text says which limit, and how to raise it.
type exceeded string

func (e exceeded) Error() string        { return string(e) }
func (e exceeded) Is(target error) bool { return target == ErrExceeded }

// Quota counts what one archive has used of its limits.
type Quota struct {
	limit    int64 // 0: none
	content  int64 // bytes
	stream   int64 // bytes
	metadata int64 // bytes
	entries  int
}

// New returns the quota of one archive, with the limit that the environment sets.
func New() (*Quota, error) {
	limit, err := Limit()
	return &Quota{limit: limit}, err
}

// Limit returns the number of bytes that an archive may unpack to, 0 for no limit.
func Limit() (int64, error) {
	text := os.Getenv(Setting)
	if text == "" {
		return DefaultBytes, nil
	}
	n, err := units.RAMInBytes(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("invalid size %q in %s: use a number with a unit, such as 200g, or 0 for no limit", text, Setting)
	}
	return n, nil
}

func (q *Quota) exceeded() error {
	return exceeded(fmt.Sprintf("it unpacks to more than %s, the limit of an archive or a layer: set %s to a larger size if you trust it",
		units.BytesSize(float64(q.limit)), Setting))
}

// Content counts the n bytes of a file, holes included, before they are read.
func (q *Quota) Content(n int64) error {
	if q.content += n; n < 0 || q.content < 0 || q.limit > 0 && q.content > q.limit {
		return q.exceeded()
	}
	return nil
}

// Entry counts a header: its reader keeps names and attributes in memory.
func (q *Quota) Entry(h *tar.Header) error {
	if q.entries++; q.entries > Entries {
		return exceeded(fmt.Sprintf("it has more than %d files", Entries))
	}
	q.metadata += int64(len(h.Name) + len(h.Linkname))
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, "SCHILY.xattr.") {
			q.metadata += int64(len(k) + len(v) + attribute)
		}
	}
	if q.metadata > MaxMetadata {
		return Metadata()
	}
	return nil
}

// Metadata returns the error for names and attributes that need more than MaxMetadata.
func Metadata() error {
	return exceeded(fmt.Sprintf("its names and attributes take more than %d MiB", MaxMetadata>>20))
}

// Reader returns a reader of a decompressed archive that fails when the limit is exceeded.
func (q *Quota) Reader(r io.Reader) io.Reader { return &reader{q, r} }

type reader struct {
	q *Quota
	r io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if r.q.stream += int64(n); r.q.limit > 0 && r.q.stream > r.q.limit {
		return n, r.q.exceeded()
	}
	return n, err
}

// File counts a file of a context by the bytes of its metadata, and those of its content as the client says them.
func (q *Quota) File(metadata int, size int64) error {
	if q.entries++; q.entries > Entries {
		return exceeded(fmt.Sprintf("it has more than %d files", Entries))
	}
	if q.metadata += int64(metadata); q.metadata > MaxMetadata {
		return Metadata()
	}
	if q.content += size; size < 0 || q.content < 0 || q.limit > 0 && q.content > q.limit {
		return q.tooMuch()
	}
	return nil
}

// Sent counts n more bytes that a client has sent.
func (q *Quota) Sent(n int64) error {
	if q.stream += n; q.limit > 0 && q.stream > q.limit {
		return q.tooMuch()
	}
	return nil
}

func (q *Quota) tooMuch() error {
	return exceeded(fmt.Sprintf("it has more than %s, the limit of a context: set %s to a larger size if you trust it",
		units.BytesSize(float64(q.limit)), Setting))
}

// Receiver returns a reader of what a client sends that fails when the limit is exceeded.
func (q *Quota) Receiver(r io.Reader) io.Reader { return &receiver{q, r} }

type receiver struct {
	q *Quota
	r io.Reader
}

func (r *receiver) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err := r.q.Sent(int64(n)); err != nil {
		return n, err
	}
	return n, err
}
