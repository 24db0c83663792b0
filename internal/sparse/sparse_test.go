package sparse

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// recorder keeps what was written, and how it came.
type recorder struct {
	content     []byte
	data, holes int64
}

func (r *recorder) Data(p []byte) error {
	r.content = append(r.content, p...)
	r.data += int64(len(p))
	return nil
}

func (r *recorder) Hole(n int64) error {
	r.content = append(r.content, make([]byte, n)...)
	r.holes += n
	return nil
}

func writeRuns(t *testing.T, content []byte, piece func() int) *recorder {
	t.Helper()
	var runs Runs
	to := &recorder{}
	for rest := content; len(rest) > 0; {
		n := min(piece(), len(rest))
		if err := runs.Write(to, rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := runs.End(to); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(to.content, content) {
		t.Fatal("what was written is not what came out")
	}
	return to
}

func TestZerosBecomeHoles(t *testing.T) {
	t.Parallel()
	text := bytes.Repeat([]byte("x"), 10_000)
	for name, tt := range map[string]struct {
		content []byte
		data    int64
	}{
		"nothing":         {nil, 0},
		"data":            {text, 10_000},
		"a few zeros":     {make([]byte, Least-1), Least - 1},
		"zeros":           {make([]byte, 1<<20), 0},
		"at the end":      {join(text, make([]byte, 1<<20)), 10_000},
		"at the start":    {join(make([]byte, 1<<20), text), 10_000},
		"few in between":  {join(text, make([]byte, 4096), text), 24_096},
		"many in between": {join(text, make([]byte, 1<<20), text), 20_000},
	} {
		for _, piece := range []int{1 << 30, 1 << 20, 64 << 10, 32 << 10, 4096, 1000} {
			t.Run(fmt.Sprintf("%s by %d", name, piece), func(t *testing.T) {
				got := writeRuns(t, tt.content, func() int { return piece })
				// A block at each end of a hole may be data.
				if got.data < tt.data || got.data > tt.data+2*block {
					t.Errorf("%d bytes of data, want %d", got.data, tt.data)
				}
			})
		}
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestRunsOfAnyLengths(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var content []byte
		for range random.IntN(6) {
			part := make([]byte, 1+random.IntN(100)) // of zeros
			if random.IntN(2) == 0 {
				part[random.IntN(len(part))] = 1
			}
			content = append(content, bytes.Repeat(part, 1+random.IntN(3*Least)/len(part))...)
		}
		writeRuns(t, content, func() int { return 1 + random.IntN(1+random.IntN(2*Least)) })
	}
}

func TestWriter(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString("head"); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(f, 4)
	piece := make([]byte, 1<<20)
	for range 64 {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != 64<<20+4 {
		t.Errorf("%d bytes", info.Size())
	}
	if blocks := info.Sys().(*syscall.Stat_t).Blocks; blocks*512 > 1<<20 {
		t.Errorf("%d bytes on disk", blocks*512)
	}
}

// failing is a file that refuses the write after some.
type failing struct{ left int }

var errRefused = errors.New("refused")

func (f *failing) write() error {
	if f.left--; f.left < 0 {
		return errRefused
	}
	return nil
}

func (f *failing) Data([]byte) error { return f.write() }
func (f *failing) Hole(int64) error  { return f.write() }

// TestRunsErrors: the first error of the file ends the writing, whichever write it is.
func TestRunsErrors(t *testing.T) {
	t.Parallel()
	text, few, many := []byte("text"), make([]byte, block), make([]byte, Least)
	for name, c := range map[string]struct {
		writes [][]byte
		calls  int
	}{
		"data":                   {[][]byte{text}, 1},
		"a hole, then data":      {[][]byte{many, text}, 2},
		"data, a hole, data":     {[][]byte{join(bytes.Repeat(text, block/4), many, text)}, 3},
		"zeros of an earlier":    {[][]byte{few, text}, 2},
		"zeros at the end":       {[][]byte{text, few}, 2},
		"a hole at the end":      {[][]byte{text, many}, 2},
		"nothing but a few zero": {[][]byte{few}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for left := range c.calls + 1 {
				var runs Runs
				var err error
				to := &failing{left: left}
				for _, p := range c.writes {
					if err == nil {
						err = runs.Write(to, p)
					}
				}
				if err == nil {
					err = runs.End(to)
				}
				if want := left < c.calls; errors.Is(err, errRefused) != want {
					t.Errorf("after %d of %d calls: %v", left, c.calls, err)
				}
			}
		})
	}
}

func TestWriterErrors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path) // not for writing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	w := NewWriter(f, 0)
	if n, err := w.Write([]byte("text")); n != 0 || err == nil {
		t.Errorf("a write to a file that is open for reading: %d, %v", n, err)
	}
	w = NewWriter(f, 0)
	if _, err := w.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("zeros are written to a file that is open for reading")
	}
}
