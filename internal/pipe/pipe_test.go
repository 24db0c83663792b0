package pipe

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/micabuild/mica/internal/crash"
)

// sizes are lengths of streams around those of chunks.
var sizes = []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize*chunkCount + 7}

// data is n bytes in which no chunk is like another.
func data(n int) []byte {
	const period = 251
	pattern := make([]byte, period)
	for i := range pattern {
		pattern[i] = byte(i)
	}
	return bytes.Repeat(pattern, n/period+1)[:n]
}

var errBroken = errors.New("broken")

// broken fails after n bytes.
type broken struct{ n int }

func (b *broken) Write(p []byte) (int, error) {
	if b.n -= len(p); b.n < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestWriter(t *testing.T) {
	t.Parallel()
	for _, n := range sizes {
		var got bytes.Buffer
		w := NewWriter(&got)
		if m, err := io.Copy(w, iotest.HalfReader(bytes.NewReader(data(n)))); err != nil || m != int64(n) {
			t.Errorf("%d bytes: wrote %d, %v", n, m, err)
		}
		for range 2 {
			if err := w.Close(); err != nil {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
		if !bytes.Equal(got.Bytes(), data(n)) {
			t.Errorf("%d bytes: others were written", n)
		}
	}
}

func TestWriterFails(t *testing.T) {
	t.Parallel()
	w := NewWriter(&broken{n: chunkSize})
	var err error
	for err == nil {
		_, err = w.Write(data(chunkSize))
	}
	if closeErr := w.Close(); !errors.Is(err, errBroken) || !errors.Is(closeErr, errBroken) {
		t.Errorf("%v, %v", err, closeErr)
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	for _, n := range sizes {
		var tee bytes.Buffer
		r := NewReader(iotest.HalfReader(bytes.NewReader(data(n))), &tee)
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data(n)) {
			t.Errorf("%d bytes: read %d, %v", n, len(got), err)
		}
		if err := r.Wait(); err != nil || !bytes.Equal(tee.Bytes(), data(n)) {
			t.Errorf("%d bytes: the tee has %d, %v", n, tee.Len(), err)
		}
		r.Close()
	}
}

func TestReaderFails(t *testing.T) {
	t.Parallel()
	fault := iotest.ErrReader(errBroken)
	for name, tt := range map[string]struct {
		source io.Reader
		tee    io.Writer
		read   int // bytes before the error
	}{
		"source":      {io.MultiReader(bytes.NewReader(data(5)), fault), io.Discard, 5},
		"tee":         {bytes.NewReader(data(100 * chunkSize)), &broken{}, -1},
		"both at end": {io.MultiReader(bytes.NewReader(data(chunkSize)), fault), &broken{n: chunkSize}, chunkSize},
	} {
		r := NewReader(tt.source, tt.tee)
		got, err := io.ReadAll(r)
		if !errors.Is(err, errBroken) || tt.read >= 0 && len(got) != tt.read {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		r.Close()
	}
}

// TestReaderIsClosedEarly: neither goroutine waits for a user who has gone.
func TestReaderIsClosedEarly(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 10, chunkSize + 1} {
		r := NewReader(bytes.NewReader(data(20*chunkSize)), io.Discard)
		if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
			t.Error(err)
		}
		r.Close()
	}
}

// TestReaderOfAFault: a panic of the source is the user's error.
func TestReaderOfAFault(t *testing.T) {
	t.Parallel()
	r := NewReader(faulty{}, io.Discard)
	_, err := io.ReadAll(r)
	var fault *crash.Error
	if !errors.As(err, &fault) {
		t.Errorf("%v", err)
	}
	r.Close()
}

type faulty struct{}

func (faulty) Read([]byte) (int, error) { panic("a fault") }

// counted counts what is read of a source.
type counted struct {
	r    io.Reader
	read atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// TestReaderIsBounded: memory does not grow with a stream whose reader waits.
func TestReaderIsBounded(t *testing.T) {
	t.Parallel()
	source := &counted{r: bytes.NewReader(data(100 * chunkSize))}
	r := NewReader(source, io.Discard)
	if _, err := io.CopyN(io.Discard, r, 1); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if n := source.read.Load(); n > (maxChunks+1)*chunkSize {
		t.Errorf("%d bytes were read ahead", n)
	}
	if _, err := io.ReadAll(r); err == nil {
		t.Error("a closed reader comes to an end")
	}
}

// TestTeeError: the error of the tee is there before the end of the source.
func TestTeeError(t *testing.T) {
	t.Parallel()
	r := NewReader(bytes.NewReader(data(50*chunkSize)), &broken{})
	_, err := io.Copy(io.Discard, r)
	if !errors.Is(err, errBroken) || !errors.Is(r.TeeError(), errBroken) {
		t.Errorf("%v, %v", err, r.TeeError())
	}
	r.Close()
	good := NewReader(bytes.NewReader(data(5)), io.Discard)
	if _, err := io.ReadAll(good); err != nil || good.TeeError() != nil || good.Wait() != nil {
		t.Errorf("%v, %v", err, good.TeeError())
	}
	good.Close()
}
