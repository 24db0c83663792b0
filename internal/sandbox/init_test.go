package sandbox

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program that others may not execute, or that was replaced, is copied for the container.
func TestCopyOfProgram(t *testing.T) {
	t.Parallel()
	b := newBundle(t, &Process{}, nil)
	from := filepath.Join(b.dir, "program")
	if err := os.WriteFile(from, []byte("program"), 0o700); err != nil {
		t.Fatal(err)
	}
	at, err := b.copyOfProgram(3, from)
	if err != nil || at != filepath.Join(b.dir, "mount-3") {
		t.Fatalf("%s, %v", at, err)
	}
	text, err := os.ReadFile(at)
	info, statErr := os.Stat(at)
	if err != nil || statErr != nil || string(text) != "program" || info.Mode() != 0o755 {
		t.Errorf("%q, %v, %v, %v", text, info.Mode(), err, statErr)
	}
	if _, err := b.copyOfProgram(3, filepath.Join(b.dir, "none")); err == nil {
		t.Error("a program that is missing is copied")
	}
}

// The init process of all sandboxes says that it is ready, or what has failed.
func TestAwaitInit(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"ok\n":                                "",
		"mount /proc: permission denied\n":    "start sandbox: mount /proc: permission denied",
		"":                                    "start sandbox: init process ended: EOF",
		"ok":                                  "start sandbox: init process ended: EOF",
		"make mounts private: x\nsecond line": "start sandbox: make mounts private: x",
	} {
		got := ""
		if err := awaitInit(strings.NewReader(said)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}

// The connections of a socket mount end with it.
func TestServe(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	go func() {
		serve(l, func(c net.Conn) {
			if _, err := io.CopyN(c, c, 4); err == nil {
				_, _ = io.Copy(io.Discard, c) // until it is closed
			}
			_ = c.Close()
		})
		close(ended)
	}()
	for range 2 {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, []byte("ping")) {
			t.Errorf("%q, %v", got, err)
		}
		defer func() {
			if n, err := c.Read(got); err == nil {
				t.Errorf("%d bytes from a socket that is gone", n)
			}
		}()
	}
	_ = l.Close()
	<-ended
}

func TestOwn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := own(path, Mount{UID: os.Getuid(), GID: os.Getgid(), Mode: os.ModeSetuid | 0o444}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o444 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := own(path+"x", Mount{UID: os.Getuid()}); err == nil {
		t.Error("a file that is missing has an owner")
	}
}
