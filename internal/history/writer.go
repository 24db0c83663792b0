package history

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Writer records a build while it runs.
type Writer struct {
	builds  *Builds
	build   *Build
	running *os.File // locked
	room    int64    // where it has room for the end

	mu   sync.Mutex
	end  int64 // of what running has
	log  *os.File
	size int64
}

// Begin records that a build has begun.
func (b *Builds) Begin(ctx context.Context, build *Build) (*Writer, error) {
	if !ValidRef(build.Ref) { // nothing would find the file
		return nil, fmt.Errorf("record build: invalid ref %q", build.Ref)
	}
	build.Status = Running
	build.file = file{name: fileName(build), started: build.Started.UnixNano(), line: build.Line, ref: build.Ref, running: true}
	data, err := json.Marshal(build)
	if err != nil {
		return nil, fmt.Errorf("record build: %w", err)
	}
	room := int64(len(data))
	data = append(append(data, bytes.Repeat([]byte{' '}, endRoom)...), '\n')
	running, err := b.begin(ctx, build.file, data)
	if err != nil {
		return nil, fmt.Errorf("record build: %w", err)
	}
	return &Writer{builds: b, build: build, running: running, room: room, end: int64(len(data))}, nil
}

// begin makes the file of a build that runs. Others see it with its lock and its first record, and not while they sweep.
func (b *Builds) begin(ctx context.Context, of file, record []byte) (*os.File, error) {
	f, err := b.store.LockedFile()
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(record); err == nil {
		err = b.publish(ctx, f.Name(), filepath.Join(b.dir, of.name+runningSuffix))
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	return f, nil
}

func (b *Builds) publish(ctx context.Context, temporary, path string) error {
	lock, err := b.store.RLock(ctx, sweepLock)
	if err != nil {
		return err
	}
	err = os.Rename(temporary, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(b.dir, 0o700); err != nil {
			return errors.Join(err, lock.Unlock())
		}
		err = os.Rename(temporary, path)
	}
	return errors.Join(err, lock.Unlock())
}

// update is what a build has learned since it began. Updates follow the build in the file of one that runs, so that others can watch
// it, and so that one whose process is killed keeps what it had.
type update struct {
	Text  string  `json:"text,omitempty"`
	Steps []*Step `json:"steps,omitempty"` // new ones, and those that have changed
	End   *ending `json:"end,omitempty"`
}

// Update records, while the build runs, the text of its Dockerfile, if that is not "", and steps that are new or have changed.
func (w *Writer) Update(text string, steps ...*Step) error {
	data, err := json.Marshal(update{Text: text, Steps: steps})
	if err != nil {
		return fmt.Errorf("record build: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == nil {
		return nil
	}
	n, err := w.running.WriteAt(append(data, '\n'), w.end)
	if err != nil { // a part of a line would hide those after it
		return fmt.Errorf("record build: %w", errors.Join(err, w.running.Truncate(w.end)))
	}
	w.end += int64(n)
	return nil
}

// apply adds an update to a build.
func (b *Build) apply(u update) {
	if u.Text != "" {
		b.Text = u.Text
	}
	if e := u.End; e != nil {
		b.Completed, b.Status, b.Error, b.Image = e.Completed, e.Status, e.Error, e.Image
	}
	for _, s := range u.Steps {
		if s == nil {
			continue
		}
		if known := b.Step(s.Vertex); known != nil {
			*known = *s
		} else {
			b.Steps = append(b.Steps, s)
		}
	}
}

// ending is how a build ended.
type ending struct {
	Completed time.Time     `json:"completed"`
	Status    Status        `json:"status"`
	Error     string        `json:"error,omitempty"`
	Image     digest.Digest `json:"image,omitempty"`
}

// endRoom is the room that the record of a build that runs has for its end, in bytes. On a full disk nothing else can be written.
const endRoom = 2 << 10

// noteEnd writes how the build ended over the room for it. A long error is cut.
func (w *Writer) noteEnd() error {
	e := &ending{Completed: w.build.Completed, Status: w.build.Status, Error: w.build.Error, Image: w.build.Image}
	if len(e.Error) > endRoom {
		e.Error = strings.ToValidUTF8(e.Error[:endRoom], "")
	}
	for {
		data, err := json.Marshal(update{End: e})
		if err == nil && len(data) <= endRoom {
			_, err = w.running.WriteAt(data, w.room)
		} else if err == nil && e.Error != "" { // escaped, it is longer
			e.Error = strings.ToValidUTF8(e.Error[:len(e.Error)/2], "")
			continue
		}
		return err
	}
}

// Log is a piece of the output of a step.
type Log struct {
	Vertex digest.Digest `json:"vertex"`
	Stream int           `json:"stream"` // 1 is stdout, 2 is stderr
	Time   time.Time     `json:"time"`
	Data   []byte        `json:"data"`
}

// maxLog bounds the log of one build, in bytes; what follows is left out.
const maxLog = 16 << 20

// Log keeps a piece of the output of a step.
func (w *Writer) Log(l Log) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size > maxLog || w.running == nil {
		return nil
	}
	if w.log == nil {
		f, err := os.OpenFile(filepath.Join(w.builds.dir, fileName(w.build)+logSuffix), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("record build: %w", err)
		}
		w.log = f
	}
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("record build: %w", err)
	}
	n, err := w.log.Write(append(data, '\n'))
	if err != nil { // a part of a line would hide those after it
		return fmt.Errorf("record build: %w", errors.Join(err, w.log.Truncate(w.size)))
	}
	w.size += int64(n)
	return nil
}

// maxProvenance bounds the provenance of one build, in bytes.
const maxProvenance = 16 << 20

// Provenance records the provenance of the build by platform, "" for the only one (SLSA 1), before the end of the build.
func (w *Writer) Provenance(all map[string]json.RawMessage) error {
	data, err := json.Marshal(all)
	if err == nil && len(data) > maxProvenance {
		err = fmt.Errorf("the provenance has %d bytes, the limit is %d", len(data), maxProvenance)
	}
	if err == nil {
		err = w.builds.store.WriteCacheFile(filepath.Join(w.builds.dir, fileName(w.build)+provenanceSuffix), data)
	}
	if err != nil {
		return fmt.Errorf("record build: %w", err)
	}
	return nil
}

// Provenance returns the provenance of a build as Writer.Provenance has recorded it; nothing for a build of which it was not.
func (b *Builds) Provenance(build *Build) (all map[string]json.RawMessage, err error) {
	data, err := os.ReadFile(filepath.Join(b.dir, build.file.name+provenanceSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read the provenance of build %s: %w", build.Ref, err)
	}
	return all, nil
}

// End records the end of the build. It may be called again if it has failed, as on a full disk. Until then the record of the build that runs has
// how it ended.
func (w *Writer) End() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	data, err := json.Marshal(w.build)
	path := filepath.Join(w.builds.dir, fileName(w.build))
	if err == nil {
		err = w.builds.store.WriteCacheFile(path, data)
	}
	if err == nil {
		if err = os.Remove(path + runningSuffix); errors.Is(err, fs.ErrNotExist) {
			err = nil // the build was removed, now that it has ended
		}
	}
	if err != nil && w.running != nil {
		err = errors.Join(err, w.noteEnd())
	}
	for _, f := range []**os.File{&w.log, &w.running} {
		if *f != nil {
			err = errors.Join(err, (*f).Close())
			*f = nil
		}
	}
	if err != nil {
		return fmt.Errorf("record build: %w", err)
	}
	return nil
}

// Logs calls yield for each piece of a build's output, until it returns an error.
func (b *Builds) Logs(build *Build, yield func(Log) error) error {
	_, err := b.LogsFrom(build, 0, yield)
	return err
}

// LogsFrom is Logs from a position in the log, 0 for the beginning. It returns the position after the last piece that yield took,
// from which the log of a build that runs goes on.
func (b *Builds) LogsFrom(build *Build, from int64, yield func(Log) error) (next int64, err error) {
	f, err := os.Open(filepath.Join(b.dir, build.file.name+logSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return from, nil
	}
	if err != nil {
		return from, fmt.Errorf("read the log of build %s: %w", build.Ref, err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return from, fmt.Errorf("read the log of build %s: %w", build.Ref, err)
	}
	dec := json.NewDecoder(bufio.NewReader(f))
	for {
		next = from + dec.InputOffset()
		var l Log
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return next, nil // a build that runs, or was killed, may end within a line
		}
		if err != nil {
			return next, fmt.Errorf("read the log of build %s: %w", build.Ref, err)
		}
		if err := yield(l); err != nil {
			return next, err
		}
	}
}
