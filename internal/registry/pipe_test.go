package registry

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// someData is longer than a pipe holds, and no multiple of its chunks.
var someData = bytes.Repeat([]byte("0123456789abcdefg"), 150_000)

func TestPipePassesAllOn(t *testing.T) {
	for name, read := range map[string]func(p *pipe) ([]byte, error){
		"Read":    func(p *pipe) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{p}) },
		"WriteTo": func(p *pipe) ([]byte, error) { var b bytes.Buffer; _, err := p.WriteTo(&b); return b.Bytes(), err },
		"both": func(p *pipe) ([]byte, error) {
			head := make([]byte, 1000)
			_, err := io.ReadFull(p, head)
			b := bytes.NewBuffer(head)
			if err == nil {
				_, err = p.WriteTo(b)
			}
			return b.Bytes(), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipe()
			go func() {
				_, err := io.Copy(p, struct{ io.Reader }{bytes.NewReader(someData)})
				p.end(err)
			}()
			if got, err := read(p); err != nil || !bytes.Equal(got, someData) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

func TestPipeTellsTheWritersError(t *testing.T) {
	p, broken := newPipe(), errors.New("broken")
	go func() {
		_, _ = p.Write(someData[:pipeChunk+1])
		p.end(broken)
	}()
	if n, err := io.Copy(io.Discard, p); !errors.Is(err, broken) || n != pipeChunk {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestPipeStopsTheWriter(t *testing.T) {
	p, stopped := newPipe(), errors.New("stopped")
	written := make(chan error)
	go func() {
		_, err := io.Copy(p, struct{ io.Reader }{bytes.NewReader(someData)})
		p.end(err)
		written <- err
	}()
	if _, err := io.ReadFull(p, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	p.stop(stopped)
	if err := <-written; !errors.Is(err, stopped) {
		t.Errorf("the writer gets %v", err)
	}
	// What reads on, as a request that is being given up, ends too.
	if _, err := io.Copy(io.Discard, p); !errors.Is(err, stopped) {
		t.Errorf("the reader gets %v", err)
	}
}
