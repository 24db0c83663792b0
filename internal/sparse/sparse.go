// Package sparse finds the runs of zeros in the data that is written to a file, so that they need no blocks on disk: a few
// kilobytes of an archive can expand to gigabytes of zeros.
package sparse

import (
	"io"
	"os"
)

const (
	block = 4 << 10
	// Least is the shortest run of zeros that becomes a hole, in bytes: shorter ones are not worth another extent.
	Least = 64 << 10
)

var zeros [Least]byte

// File is written in order. A hole of n bytes reads as n zeros.
type File interface {
	Data(p []byte) error
	Hole(n int64) error
}

// Runs divides a stream into data and holes, wherever it is cut into writes. The zero value is ready to use.
type Runs struct {
	pending int64 // zeros at the end that have not been written to the file
}

// Write writes p to the file, except for the zeros at its end, which the next Write or End writes.
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

// hole writes data and then a hole.
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

// End writes the zeros at the end of the stream.
func (r *Runs) End(to File) error {
	n := r.pending
	r.pending = 0
	if n >= Least {
		return to.Hole(n)
	}
	return data(to, zeros[:n])
}

// Writer writes to a file of the host, and leaves holes in it. The file is complete after Close.
type Writer struct {
	f    *os.File
	at   int64
	end  int64 // of the file
	runs Runs
}

// NewWriter returns a writer to f from the offset at on, where the file must end.
func NewWriter(f *os.File, at int64) *Writer { return &Writer{f: f, at: at, end: at} }

// Write implements io.Writer. Zeros at the end of p may be written later.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.runs.Write((*writerFile)(w), p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close completes the file. It does not close it.
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
