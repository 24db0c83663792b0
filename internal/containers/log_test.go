package containers

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// read returns what a log has, with E: before lines of stderr.
func read(t *testing.T, l *Log, o LogOptions) string {
	t.Helper()
	if !o.Stdout && !o.Stderr {
		o.Stdout, o.Stderr = true, true
	}
	var b strings.Builder
	err := l.Read(t.Context(), o, func(r *Record) error {
		if r.Stream == Stderr {
			b.WriteString("E:")
		}
		b.Write(r.Data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLog(t *testing.T) {
	t.Parallel()
	l := NewLog(t.TempDir())
	t.Cleanup(l.Close)
	if got := read(t, l, LogOptions{Tail: -1, Follow: true}); got != "" {
		t.Errorf("a log that was not begun: %q", got)
	}
	l.Begin()
	l.Write(Stdout, []byte("one\ntw"))
	l.Write(Stderr, []byte("bad\n"))
	l.Write(Stdout, []byte("o\nthree"))
	if got := read(t, l, LogOptions{Tail: -1}); got != "one\nE:bad\ntwo\n" {
		t.Errorf("%q", got)
	}
	l.End()
	for name, c := range map[string]struct {
		o    LogOptions
		want string
	}{
		"all":        {LogOptions{Tail: -1}, "one\nE:bad\ntwo\nthree"},
		"followed":   {LogOptions{Tail: -1, Follow: true}, "one\nE:bad\ntwo\nthree"},
		"stdout":     {LogOptions{Tail: -1, Stdout: true}, "one\ntwo\nthree"},
		"the last":   {LogOptions{Tail: 2}, "two\nthree"},
		"of stderr":  {LogOptions{Tail: 1, Stderr: true}, "E:bad\n"},
		"nothing":    {LogOptions{Tail: 0}, ""},
		"many":       {LogOptions{Tail: 100}, "one\nE:bad\ntwo\nthree"},
		"of later":   {LogOptions{Tail: -1, Since: time.Now().Add(time.Hour)}, ""},
		"of earlier": {LogOptions{Tail: -1, Until: time.Now().Add(-time.Hour)}, ""},
	} {
		if got := read(t, l, c.o); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A log has a bounded size, whatever is written, and its end is there.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := NewLog(dir)
	t.Cleanup(l.Close)
	l.Begin()
	long := append(bytes.Repeat([]byte("x"), 3*maxLine), '\n')
	for range (segments + 2) * segmentSize / len(long) {
		l.Write(Stdout, long)
	}
	l.Write(Stdout, []byte("end\n"))
	l.End()
	var size int64
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > segments*(segmentSize+maxLine+headSize) || len(entries) != segments {
		t.Errorf("%d bytes in %d files", size, len(entries))
	}
	if got := read(t, l, LogOptions{Tail: 1}); got != "end\n" {
		t.Errorf("%q", got)
	}
	if got := read(t, l, LogOptions{Tail: -1}); int64(len(got)) > size || !strings.HasSuffix(got, "x\nend\n") {
		t.Errorf("%d of %d bytes", len(got), size)
	}
}

// A reader that is far behind misses what was dropped, and sees the end.
func TestLogFollow(t *testing.T) {
	t.Parallel()
	l := NewLog(t.TempDir())
	t.Cleanup(l.Close)
	l.Begin()
	l.Write(Stdout, []byte("first\n"))
	first, done, wait := make(chan bool, 1), make(chan error, 1), make(chan bool)
	last := ""
	go func() {
		done <- l.Read(context.Background(), LogOptions{Stdout: true, Tail: -1, Follow: true}, func(r *Record) error {
			if last == "" {
				first <- true
				<-wait
			}
			last = string(r.Data)
			return nil
		})
	}()
	<-first
	line := append(bytes.Repeat([]byte("y"), maxLine-1), '\n')
	for range (segments + 1) * segmentSize / len(line) {
		l.Write(Stdout, line)
	}
	l.Write(Stdout, []byte("last\n"))
	close(wait)
	l.End()
	if err := <-done; err != nil || last != "last\n" {
		t.Errorf("%q, %v", last, err)
	}
	l.Begin()
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	go func() { cancel(gone) }()
	if err := l.Read(ctx, LogOptions{Stdout: true, Tail: 0, Follow: true}, func(*Record) error { return nil }); !errors.Is(err, gone) {
		t.Errorf("a client that goes: %v", err)
	}
}

// A record that cannot be written is dropped; the log goes on when the disk has room again.
func TestLogAfterFullDisk(t *testing.T) {
	t.Parallel()
	l := NewLog(t.TempDir())
	t.Cleanup(l.Close)
	l.Begin()
	l.Write(Stdout, []byte("before\n"))
	whole := l.current
	full, err := os.Open(whole.Name()) // cannot be written
	if err != nil {
		t.Fatal(err)
	}
	l.current = full
	l.Write(Stdout, []byte("lost\n"))
	if err := full.Close(); err != nil {
		t.Fatal(err)
	}
	l.current = whole
	l.Write(Stdout, []byte("after\n"))
	l.End()
	if got := read(t, l, LogOptions{Tail: -1}); got != "before\nafter\n" {
		t.Errorf("%q", got)
	}
}
