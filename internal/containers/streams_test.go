package containers

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// failing is a client that does not read.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// What a process writes reaches all clients; one that does not read is detached, and holds nothing up.
func TestOutput(t *testing.T) {
	t.Parallel()
	s := newStreams(nil)
	var out, both bytes.Buffer
	a, b, c := s.attach(&out, nil), s.attach(&both, &both), s.attach(failing{}, nil)
	for stream, text := range map[Stream]string{Stdout: "out\n", Stderr: "err\n"} {
		if n, err := (output{s, stream}).Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if out.String() != "out\n" || both.Len() != 8 {
		t.Errorf("%q, %q", out.String(), both.String())
	}
	<-c.done
	select {
	case <-a.done:
		t.Error("a client that reads was detached")
	default:
	}
	s.stop()
	<-a.done
	<-b.done
}

func TestServe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		typed, keys string
		tty, once   bool
		want        string
		detached    bool
	}{
		"input to its end":    {typed: "text\n", once: true, want: "text\n"},
		"keys of a terminal":  {typed: "text\x10\x11more", tty: true, want: "text", detached: true},
		"other keys":          {typed: "a\x01db", keys: "ctrl-a,d", tty: true, want: "a", detached: true},
		"half of the keys":    {typed: "a\x10b\x10\x11", tty: true, want: "a\x10b", detached: true},
		"keys of no terminal": {typed: "a\x10\x11b", once: true, want: "a\x10\x11b"},
	} {
		s := newStreams(nil)
		in, err := s.openStdin()
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() {
			served <- s.serve(t.Context(), AttachOptions{Stdin: strings.NewReader(c.typed), DetachKeys: c.keys}, c.tty, c.once)
		}()
		got := make([]byte, len(c.want))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if c.once {
			if n, err := in.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s: %d bytes more, %v", name, n, err)
			}
			s.stop()
		}
		if err := <-served; IsDetached(err) != c.detached {
			t.Errorf("%s: %v", name, err)
		}
		s.stop()
	}
	var typed *Error
	if err := CheckDetachKeys("ctrl-nonsense"); !errors.As(err, &typed) || typed.Kind != Invalid {
		t.Errorf("keys that there are not: %v", err)
	}
}

// A client that has been told that it is attached misses nothing, not even the end.
func TestServeReady(t *testing.T) {
	t.Parallel()
	s := newStreams(nil)
	var out bytes.Buffer
	end := func() error {
		_, err := (output{s, Stdout}).Write([]byte("last"))
		s.stop()
		return err
	}
	if err := s.serve(t.Context(), AttachOptions{Stdout: &out, Ready: end}, false, false); err != nil || out.String() != "last" {
		t.Errorf("%q, %v", out.String(), err)
	}
	gone := func() error { return os.ErrClosed }
	if err := s.serve(t.Context(), AttachOptions{Stdout: &out, Ready: gone}, false, false); !errors.Is(err, os.ErrClosed) || len(s.attached) != 0 {
		t.Errorf("%v, %d attached", err, len(s.attached))
	}
}

// What a client has sent and the process does not read is given up with the client.
func TestWriteStdinEndsWithClient(t *testing.T) {
	t.Parallel()
	s := newStreams(nil)
	if _, err := s.openStdin(); err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	a := s.attach(nil, nil)
	s.detach(a)
	if err := s.writeStdin(a, make([]byte, 1<<20)); !errors.Is(err, os.ErrClosed) { // more than a pipe holds
		t.Error(err)
	}
}
