package remotecache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Sums remembers BuildKit's digests of files by their headers and the digests of their content, so that a file whose
// content is known is not read again. It is safe for concurrent use.
type Sums struct {
	path string

	mu    sync.Mutex
	known map[sum]sum
	used  map[sum]sum // what this build learned or relied on
	fresh bool        // used holds something that known does not
}

type sum [sha256.Size]byte

// sumsMagic begins a file of sums: the name of the format and its version. Pairs of sums and the sha256 of all follow.
const sumsMagic = "mica-buildkit-1\n"

// maxSums bounds the file (64 bytes a record): past it, only what the last build used is kept.
const maxSums = 1 << 20

// OpenSums loads the sums that are kept in a file. It is a cache: a missing or damaged file counts as empty.
func OpenSums(path string) *Sums {
	return &Sums{path: path, known: readSums(path), used: map[sum]sum{}}
}

func readSums(path string) map[sum]sum {
	data, err := os.ReadFile(path)
	body := len(data) - sha256.Size
	if err != nil || body < len(sumsMagic) || (body-len(sumsMagic))%(2*sha256.Size) != 0 || !bytes.HasPrefix(data, []byte(sumsMagic)) {
		return map[sum]sum{}
	}
	if sum(data[body:]) != sha256.Sum256(data[:body]) {
		return map[sum]sum{}
	}
	records := data[len(sumsMagic):body]
	known := make(map[sum]sum, len(records)/(2*sha256.Size))
	for ; len(records) > 0; records = records[2*sha256.Size:] {
		known[sum(records[:sha256.Size])] = sum(records[sha256.Size : 2*sha256.Size])
	}
	return known
}

// get returns the digest of a file, computed if need be.
func (s *Sums) get(head string, content digest.Digest, compute func() (digest.Digest, error)) (digest.Digest, error) {
	if s == nil {
		return compute()
	}
	h := sha256.New()
	_, _ = io.WriteString(h, content.String()+head)
	key := sum(h.Sum(nil))
	if d, ok := s.lookup(key); ok {
		return digest.NewDigestFromBytes(digest.SHA256, d[:]), nil
	}
	d, err := compute()
	if err != nil {
		return "", err
	}
	return d, s.learn(key, d)
}

func (s *Sums) lookup(key sum) (sum, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.used[key]
	if !ok {
		if d, ok = s.known[key]; ok {
			s.used[key] = d
		}
	}
	return d, ok
}

func (s *Sums) learn(key sum, d digest.Digest) error {
	var v sum
	if _, err := hex.Decode(v[:], []byte(d.Encoded())); err != nil {
		return fmt.Errorf("digest %s: %w", d, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[key] = v
	s.fresh = true
	return nil
}

// Save writes back what was learned, by rename. Of two builds that save at once one wins: the other computes again.
func (s *Sums) Save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.fresh {
		return nil
	}
	all := readSums(s.path)
	if len(all)+len(s.used) > maxSums {
		all = map[sum]sum{}
	}
	for k, v := range s.used {
		all[k] = v
	}
	data := make([]byte, 0, len(sumsMagic)+len(all)*2*sha256.Size+sha256.Size)
	data = append(data, sumsMagic...)
	for k, v := range all {
		data = append(append(data, k[:]...), v[:]...)
	}
	end := sha256.Sum256(data)
	if err := replaceFile(s.path, append(data, end[:]...)); err != nil {
		return fmt.Errorf("remember digests: %w", err)
	}
	s.fresh = false
	return nil
}

// replaceFile is not synced to disk: after a crash the checksum tells, and the memory is empty.
func replaceFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "sums-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
