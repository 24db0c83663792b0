package containers

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Limits of the log of a container. Older output is dropped: what a process writes never waits for the log.
const (
	segmentSize = 4 << 20
	segments    = 4
	maxLine     = 16 << 10 // as in Docker, a longer line is several records
)

// Stream is an output stream of a process, as Docker's API numbers them.
type Stream byte

// The streams.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Record is a line of output, or a part of a long one, or the end without a newline.
type Record struct {
	Stream Stream
	Time   time.Time
	Data   []byte
}

// Log keeps the last output of a container in files. One process writes, and any number of readers follow.
type Log struct {
	dir     string
	mu      sync.Mutex
	current *os.File
	first   int // of the segments
	last    int
	size    int64 // of the last segment
	parts   map[Stream][]byte
	changed chan struct{} // closed when records were added, or the log has ended
	ended   bool
	closed  bool
}

// headSize is the size of what comes before the data of a record: stream, time, length.
const headSize = 1 + 8 + 4

// NewLog returns an empty log in a directory that exists.
func NewLog(dir string) *Log {
	return &Log{dir: dir, parts: map[Stream][]byte{}, changed: make(chan struct{}), ended: true, first: 1}
}

func (l *Log) segment(n int) string { return filepath.Join(l.dir, fmt.Sprintf("log-%d", n)) }

// Begin tells readers to wait for what a process writes.
func (l *Log) Begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = false
}

// End adds what a process has left without a newline. Readers do not wait any more.
func (l *Log) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range []Stream{Stdout, Stderr} {
		if part := l.parts[s]; len(part) > 0 {
			l.add(s, part)
			l.parts[s] = nil
		}
	}
	l.ended = true
	l.wake()
}

// Close releases the file. The files go with their directory.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != nil {
		_ = l.current.Close()
		l.current = nil
	}
	l.ended, l.closed = true, true
	l.wake()
}

func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Write adds output.
func (l *Log) Write(s Stream, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(data) > 0 {
		n, whole := bytes.IndexByte(data, '\n')+1, true
		if n == 0 {
			n, whole = len(data), false
		}
		if room := maxLine - len(l.parts[s]); n >= room {
			n, whole = room, true
		}
		l.parts[s] = append(l.parts[s], data[:n]...)
		data = data[n:]
		if !whole {
			break
		}
		l.add(s, l.parts[s])
		l.parts[s] = l.parts[s][:0]
	}
	l.wake()
}

// add writes a record. One that cannot be written, for the disk is full, is dropped: the process goes on, and so does the log when it can.
func (l *Log) add(s Stream, data []byte) {
	if l.closed {
		return
	}
	if (l.current == nil || l.size >= segmentSize) && l.rotate() != nil {
		return
	}
	record := make([]byte, headSize, headSize+len(data))
	record[0] = byte(s)
	binary.BigEndian.PutUint64(record[1:], uint64(time.Now().UnixNano()))
	binary.BigEndian.PutUint32(record[9:], uint32(len(data)))
	record = append(record, data...)
	if _, err := l.current.WriteAt(record, l.size); err != nil {
		_ = l.current.Truncate(l.size) // a part of it may be there
		return
	}
	l.size += int64(len(record))
}

func (l *Log) rotate() error {
	f, err := os.OpenFile(l.segment(l.last+1), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if l.current != nil {
		_ = l.current.Close()
	}
	l.current, l.size = f, 0
	l.last++
	for l.last-l.first >= segments {
		_ = os.Remove(l.segment(l.first))
		l.first++
	}
	return nil
}

// reader reads records in order.
type reader struct {
	l    *Log
	n    int // the segment
	at   int64
	file *os.File
}

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
}

// next returns the next record, or io.EOF and a channel that is closed when there may be more; nil if there will not.
func (r *reader) next() (*Record, <-chan struct{}, error) {
	for {
		r.l.mu.Lock()
		first, last, size, changed := r.l.first, r.l.last, r.l.size, r.l.changed
		if r.l.ended {
			changed = nil
		}
		r.l.mu.Unlock()
		if r.n < first {
			r.close()
			r.n, r.at, r.file = first, 0, nil
		}
		if r.n > last || r.n == last && r.at >= size {
			return nil, changed, io.EOF
		}
		if r.file == nil {
			f, err := os.Open(r.l.segment(r.n))
			if errors.Is(err, fs.ErrNotExist) && r.n < last { // removed in the meantime
				r.n++
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			r.file = f
		}
		rec, err := r.read()
		if errors.Is(err, io.EOF) && r.n < last {
			r.close()
			r.n, r.at, r.file = r.n+1, 0, nil
			continue
		}
		return rec, nil, err
	}
}

func (r *reader) read() (*Record, error) {
	var head [headSize]byte
	if _, err := r.file.ReadAt(head[:], r.at); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[9:])
	if size > maxLine {
		return nil, errors.New("read log: a record is damaged")
	}
	rec := &Record{Stream: Stream(head[0]), Time: time.Unix(0, int64(binary.BigEndian.Uint64(head[1:]))), Data: make([]byte, size)}
	if _, err := r.file.ReadAt(rec.Data, r.at+headSize); err != nil {
		return nil, err
	}
	r.at += headSize + int64(size)
	return rec, nil
}

// LogOptions select records. Times that are zero are no limits.
type LogOptions struct {
	Stdout, Stderr, Follow bool
	Since, Until           time.Time
	Tail                   int // the last lines; negative for all
}

func (o *LogOptions) match(r *Record) bool {
	return (r.Stream == Stdout && o.Stdout || r.Stream == Stderr && o.Stderr) && (o.Since.IsZero() || !r.Time.Before(o.Since))
}

// Read calls f for each record. With Follow it goes on until the process ends.
func (l *Log) Read(ctx context.Context, o LogOptions, f func(*Record) error) error {
	l.mu.Lock()
	r := &reader{l: l, n: l.first}
	l.mu.Unlock()
	defer func() { r.close() }()
	if o.Tail >= 0 {
		if err := r.skip(o); err != nil {
			return err
		}
	}
	var until <-chan time.Time
	if !o.Until.IsZero() {
		timer := time.NewTimer(time.Until(o.Until))
		defer timer.Stop()
		until = timer.C
	}
	for {
		rec, more, err := r.next()
		switch {
		case errors.Is(err, io.EOF) && (more == nil || !o.Follow):
			return nil
		case errors.Is(err, io.EOF):
			select {
			case <-more:
			case <-until:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		case err != nil:
			return err
		case !o.Until.IsZero() && rec.Time.After(o.Until):
			return nil
		case !o.match(rec):
			continue
		}
		if err := f(rec); err != nil {
			return err
		}
	}
}

// skip goes to the last lines: it counts all of them, and then those that are not wanted.
func (r *reader) skip(o LogOptions) error {
	var ends []place
	for {
		at := place{r.n, r.at}
		rec, _, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if !o.match(rec) || !o.Until.IsZero() && rec.Time.After(o.Until) {
			continue
		}
		if r.at-at.at != headSize+int64(len(rec.Data)) { // of the next segment
			at = place{r.n, 0}
		}
		if ends = append(ends, at); len(ends) > o.Tail {
			ends = ends[1:]
		}
	}
	if len(ends) > 0 && ends[0] != (place{r.n, r.at}) {
		r.close()
		r.n, r.at, r.file = ends[0].n, ends[0].at, nil
	}
	return nil
}

// place is where a record begins.
type place struct {
	n  int
	at int64
}
