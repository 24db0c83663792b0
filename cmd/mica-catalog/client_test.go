package main

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
)

// TestClient checks that the files of mica are a filesystem.
func TestClient(t *testing.T) {
	t.Parallel()
	c := newConnection(t)
	m := &mica{files: map[string]string{"etc/os-release": debian, "etc/empty": "", "usr/lib/x/y": "content"}}
	done := make(chan error, 1)
	go func() { done <- m.listen(c.requests, c.replies, c.descriptors) }()
	for name, want := range m.files {
		if got, err := fs.ReadFile(c.client, name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	var names []string
	err := fs.WalkDir(c.client, ".", func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	})
	if got := strings.Join(names, " "); err != nil || len(names) != len(strings.Fields(". etc etc/empty etc/os-release usr usr/lib usr/lib/x usr/lib/x/y")) {
		t.Errorf("%s, %v", got, err)
	}
	for name, want := range map[string]error{"nothing": fs.ErrNotExist, "../etc/os-release": fs.ErrInvalid, "/etc/os-release": fs.ErrInvalid} {
		if _, err := c.client.Open(name); !errors.Is(err, want) || !errors.As(err, new(*fs.PathError)) {
			t.Errorf("open %s: %v, want %v", name, err, want)
		}
		if _, err := fs.Stat(c.client, name); !errors.Is(err, want) {
			t.Errorf("stat %s: %v, want %v", name, err, want)
		}
	}
	if _, err := c.client.Open("etc"); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("open a directory: %v", err)
	}
	if err := errors.Join(c.client.done(), <-done); err != nil {
		t.Fatal(err)
	}
}

// TestReplies checks that replies that mica does not send are errors.
func TestReplies(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{", "[]", "null", "{}", `{"file":[]}`, `{"files":{}}`, "\x00"} {
		if err := play(t, text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

// play opens a file whose reply is a text. No descriptor comes.
func play(t testing.TB, text string) error {
	t.Helper()
	c := newConnection(t)
	go func() { _, _ = io.Copy(io.Discard, c.requests) }()
	if _, err := io.WriteString(c.replies, text); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.replies.Close(), c.descriptors.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	_, err := c.client.Open("a")
	if _, listErr := c.client.ReadDir("."); listErr == nil && err == nil {
		return nil
	}
	return err
}

// FuzzReplies checks that no reply ends the program.
func FuzzReplies(f *testing.F) {
	for _, text := range []string{`{"file":{"name":"a","mode":420}}`, `{"missing":true}`, `{"error":"e"}`, `{"files":[{"name":"a"},{"name":"../b","mode":2147484141}]}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return // as much as a pipe holds
		}
		_ = play(t, text)
	})
}
