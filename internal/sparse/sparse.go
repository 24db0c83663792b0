// Package sparse finds the runs of zeros in what is written to a file, so that they take no blocks on disk: a few kilobytes
// of an archive can stand for gigabytes of them.
package sparse

import (
	"io"
	"os"
)

const (
	block = 4 << 10
	// Least is how many zeros become a hole, in bytes: fewer are not worth the extents that the file is cut into.
	Least = 64 << 10
)

var zeros [Least]byte

// File is written in order: data as it is, and holes that read as so many zeros.
type File interface {
	Data(p []byte) error
	Hole(n int64) error
}

// Runs divides what is written to a File into data and holes, however the writes are cut. The zero value is ready to use.
type Runs struct {
	pending int64 // zeros at the end that have not been passed on
}

// Write passes p on to the file, but for the zeros that it ends with, which End or the next Write passes on.
func (r *Runs) Write(to File, p []byte) error {
	from, run := 0, r.pending // run: zeros before p[at]
	for at := 0; at < len(p); {
		piece := p[at:min(at+block, len(p))]
		if string(piece) == string(zeros[:len(piece)]) {
			run += int64(len(piece))
			at += len(piece)
			continue
		}
		if run >= Least {
			if err := r.hole(to, p[from:max(at-int(run), from)], run); err != nil {
				return err
			}
			from = at
		} else if run > int64(at) { // it began in an earlier write
			if err := to.Data(zeros[:run-int64(at)]); err != nil {
				return err
			}
		}
		at, run = at+len(piece), 0
	}
	r.pending = run
	return data(to, p[from:max(len(p)-int(run), from)])
}

// hole passes on data and the zeros behind it.
func (r *Runs) hole(to File, before []byte, zeros int64) error {
	if err := data(to, before); err != nil {
		return err
	}
	return to.Hole(zeros)
}

func data(to File, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	return to.Data(p)
}

// End passes on the zeros that the file ends with.
func (r *Runs) End(to File) error {
	n := r.pending
	r.pending = 0
	if n >= Least {
		return to.Hole(n)
	}
	return data(to, zeros[:n])
}

// Writer writes a file of the host from where it is empty. Close it before the file is used.
type Writer struct {
	f    *os.File
	at   int64
	end  int64 // of the file
	runs Runs
}

// NewWriter returns a writer to f at an offset behind which the file has nothing.
func NewWriter(f *os.File, at int64) *Writer { return &Writer{f: f, at: at, end: at} }

// Write may keep zeros back.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.runs.Write((*writerFile)(w), p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close completes what was written. It does not close the file.
func (w *Writer) Close() error {
	if err := w.runs.End((*writerFile)(w)); err != nil {
		return err
	}
	if w.at == w.end {
		return nil
	}
	return w.f.Truncate(w.at)
}

type writerFile Writer

func (w *writerFile) Data(p []byte) error {
	if _, err := w.f.WriteAt(p, w.at); err != nil {
		return err
	}
	w.at += int64(len(p))
	w.end = w.at
	return nil
}

func (w *writerFile) Hole(n int64) error {
	w.at += n
	return nil
}

var _ io.WriteCloser = (*Writer)(nil)
