package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// catalogue is what a walk tells mica.
type catalogue struct {
	packages []Package
	warnings []string // each with its path
	again    bool
}

// find returns the package of a name.
func (c *catalogue) find(name string) *Package {
	if i := slices.IndexFunc(c.packages, func(p Package) bool { return p.Name == name }); i >= 0 {
		return &c.packages[i]
	}
	return nil
}

// mica serves files as mica does. All are executable.
type mica struct {
	files map[string]string
	sizes map[string]int64 // of files that are said to be larger than they are
	found catalogue
}

// listen answers requests until the last.
func (m *mica) listen(requests io.Reader, replies io.Writer, descriptors *net.UnixConn) error {
	in, out := json.NewDecoder(requests), json.NewEncoder(replies)
	for {
		var r request
		if err := in.Decode(&r); err != nil {
			return err
		}
		switch r.Op {
		case opHello:
		case opPackage:
			m.found.packages = append(m.found.packages, *r.Package)
		case opWarn:
			m.found.warnings = append(m.found.warnings, r.Path+": "+r.Text)
			m.found.again = m.found.again || r.Again
		case opDone:
			return nil
		default:
			if err := m.answer(&r, out, descriptors); err != nil {
				return err
			}
		}
	}
}

func (m *mica) answer(r *request, out *json.Encoder, descriptors *net.UnixConn) error {
	f := m.stat(r.Path)
	content, regular := m.files[r.Path]
	switch {
	case f == nil:
		return out.Encode(&reply{Missing: true})
	case r.Op == opReadDir:
		return out.Encode(&reply{Files: m.list(r.Path)})
	case r.Op == opOpen && !regular:
		return out.Encode(&reply{Error: "is a directory"})
	}
	if err := out.Encode(&reply{File: f}); err != nil || r.Op == opStat {
		return err
	}
	fd, err := unix.MemfdCreate("file", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), r.Path)
	defer func() { _ = file.Close() }()
	if _, err := file.WriteString(content); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, _, err = descriptors.WriteMsgUnix([]byte{0}, unix.UnixRights(fd), nil)
	return err
}

// stat returns nil for a file that is not there.
func (m *mica) stat(name string) *file {
	if content, ok := m.files[name]; ok {
		return &file{Name: path.Base(name), Mode: 0o755, Size: max(int64(len(content)), m.sizes[name])}
	}
	for at := range m.files {
		if name == "." || strings.HasPrefix(at, name+"/") {
			return &file{Name: path.Base(name), Mode: uint32(fs.ModeDir | 0o755)}
		}
	}
	return nil
}

func (m *mica) list(dir string) []file {
	seen := map[string]bool{}
	var list []file
	for name := range m.files {
		rest, ok := strings.CutPrefix(name, strings.TrimPrefix(dir+"/", "./"))
		first, _, _ := strings.Cut(rest, "/")
		if ok && !seen[first] {
			seen[first] = true
			list = append(list, *m.stat(path.Join(dir, first)))
		}
	}
	return list
}

// connection has both ends of the streams between mica and a client.
type connection struct {
	client      *client
	requests    io.Reader
	replies     io.WriteCloser
	descriptors *net.UnixConn
}

func newConnection(t testing.TB) *connection {
	t.Helper()
	requests, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, replies, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := socketPair(t)
	c, err := connect(in, out, theirs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(requests.Close(), out.Close(), in.Close(), ours.Close(), c.sockets.Close()) })
	return &connection{c, requests, replies, ours}
}

func socketPair(t testing.TB) (ours *net.UnixConn, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := os.NewFile(uintptr(fds[0]), "descriptors")
	conn, err := net.FileConn(end)
	if err := errors.Join(err, end.Close()); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn), os.NewFile(uintptr(fds[1]), "descriptors")
}

// catalogueOf walks files.
func catalogueOf(t testing.TB, m *mica, fileTime time.Duration) *catalogue {
	t.Helper()
	c := newConnection(t)
	done := make(chan error, 1)
	go func() { done <- m.listen(c.requests, c.replies, c.descriptors) }()
	all, err := extractors()
	if err != nil {
		t.Fatal(err)
	}
	w := &walker{client: c.client, extractors: all, fileTime: fileTime}
	if err := errors.Join(w.dir(t.Context(), ".", 0), c.client.done(), <-done, c.replies.Close()); err != nil {
		t.Fatal(err)
	}
	return &m.found
}

func walkFiles(t testing.TB, files map[string]string) *catalogue {
	t.Helper()
	return catalogueOf(t, &mica{files: files}, maxFileTime)
}

// modelFile returns a file that the module of osv-scalibr comes with, such as a real database.
func modelFile(t testing.TB, name string) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/osv-scalibr").Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "extractor/filesystem", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
