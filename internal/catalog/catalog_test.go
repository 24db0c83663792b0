package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// TestMain runs the test's binary as a mica-catalog, if a test starts it as one: TMPDIR has a file with what it is to do.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		if err := play(os.Getenv("TMPDIR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// play writes the requests in a script to stdout, and after each that has a reply that reply as a package.
func play(dir string) error {
	script, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(dir)), "script"))
	if err != nil {
		return err
	}
	replies := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	conn, err := net.FileConn(os.NewFile(3, "descriptors"))
	if err != nil {
		return err
	}
	var last reply
	for line := range strings.Lines(string(script)) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "fail "); ok {
			return errors.New(text)
		}
		switch line {
		case "panic": // over the file that was opened last, if it was
			if last.File != nil {
				panic("index out of range")
			}
			continue
		case "kill":
			return unix.Kill(os.Getpid(), unix.SIGKILL)
		case "long":
			line = `{"op":"warn","text":"` + strings.Repeat("x", maxRequest) + `"}`
		case "wait":
			_, err := os.Stdin.Read(make([]byte, 1))
			return err
		}
		if _, err := fmt.Println(line); err != nil {
			return err
		}
		var sent request
		if json.Unmarshal([]byte(line), &sent) != nil || sent.Op != opStat && sent.Op != opReadDir && sent.Op != opOpen {
			continue
		}
		var r reply
		if err := replies.Decode(&r); err != nil {
			return err
		}
		last = r
		text, _ := json.Marshal(r)
		if sent.Op == opOpen && r.File != nil {
			control := make([]byte, unix.CmsgSpace(4))
			_, n, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), control)
			if err != nil {
				return err
			}
			messages, _ := unix.ParseSocketControlMessage(control[:n])
			fds, _ := unix.ParseUnixRights(&messages[0])
			content, err := io.ReadAll(os.NewFile(uintptr(fds[0]), "file"))
			if err != nil {
				return err
			}
			text = content
		}
		if err := out.Encode(&request{Op: opPackage, Package: &Package{Type: "reply", Name: sent.Path, Version: string(text)}}); err != nil {
			return err
		}
	}
	return nil
}

// newCataloguer has a mica-catalog that plays a script.
func newCataloguer(t *testing.T, script string) *Cataloguer {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path("script"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Cataloguer{Store: s, Program: self}
}

var hello = fmt.Sprintf("{\"op\":\"hello\",\"text\":%q}\n", protocolVersion)

func TestServe(t *testing.T) {
	t.Parallel()
	files := view.Files(map[string][]byte{"etc/name": []byte("content")})
	for name, c := range map[string]struct {
		script string
		want   *Catalog
		err    string
	}{
		"nothing": {hello + `{"op":"done"}`, &Catalog{}, ""},
		"packages are sorted": {hello + `{"op":"package","package":{"type":"deb","name":"b","path":"p"}}` + "\n" + `{"op":"package","package":{"type":"deb","name":"a","path":"p"}}` + "\n" +
			`{"op":"package","package":{"type":"deb","name":"b","path":"p"}}` + "\n" + `{"op":"done"}`, &Catalog{Packages: []Package{{Type: "deb", Name: "a", Path: "p"}, {Type: "deb", Name: "b", Path: "p"}}}, ""},
		"a warning":                      {hello + `{"op":"warn","path":"x","text":"too large"}` + "\n" + `{"op":"done"}`, &Catalog{Skipped: []string{"x: too large"}}, ""},
		"a warning of a path with lines": {hello + `{"op":"warn","path":"a\n\u001b[2Jb","text":"damaged"}` + "\n" + `{"op":"done"}`, &Catalog{Skipped: []string{`"a\n\x1b[2Jb": damaged`}}, ""},
		"files": {
			hello + `{"op":"stat","path":"etc/name"}` + "\n" + `{"op":"readdir","path":"etc"}` + "\n" + `{"op":"open","path":"etc/name"}` + "\n" + `{"op":"stat","path":"nothing"}` + "\n" + `{"op":"open","path":"etc/name/beneath"}` + "\n" +
				`{"op":"stat","path":"../../etc/name"}` + "\n" + `{"op":"done"}`,
			&Catalog{Packages: []Package{
				{Type: "reply", Name: "../../etc/name", Version: `{"file":{"name":"name","mode":420,"size":7}}`},
				{Type: "reply", Name: "etc", Version: `{"files":[{"name":"name","mode":420,"size":7}]}`},
				{Type: "reply", Name: "etc/name", Version: "content"},
				{Type: "reply", Name: "etc/name", Version: `{"file":{"name":"name","mode":420,"size":7}}`},
				{Type: "reply", Name: "etc/name/beneath", Version: `{"missing":true}`},
				{Type: "reply", Name: "nothing", Version: `{"missing":true}`},
			}}, "",
		},
		"another version":  {`{"op":"hello","text":"0"}`, nil, "catalogue packages: mica-catalog is of another version (protocol \"0\""},
		"no version":       {`{"op":"done"}`, nil, "does not speak mica's protocol"},
		"no JSON":          {"what", nil, "invalid character"},
		"unknown request":  {hello + `{"op":"rm"}`, nil, `unknown request "rm"`},
		"ends too early":   {hello, nil, "ended too early"},
		"fails":            {hello + "fail the database is locked", nil, "catalogue packages: the database is locked"},
		"is out of memory": {hello + "fail runtime: out of memory: cannot allocate", nil, "more than 2 GB of memory"},
		"crashes": {
			hello + `{"op":"open","path":"etc/../etc/name"}` + "\npanic\n" + `{"op":"done"}`, &Catalog{
				Packages: []Package{{Type: "reply", Name: "etc/../etc/name", Version: `{"error":"mica-catalog ended when it read the file: panic: index out of range"}`}},
			}, "",
		},
		"crashes always":   {hello + `{"op":"stat","path":"etc/name"}` + "\npanic", nil, "panic: index out of range"},
		"is killed":        {hello + `{"op":"open","path":"etc/name"}` + "\nkill", nil, "mica-catalog: signal: killed"},
		"long message":     {hello + "long", nil, "mica-catalog sent a message of more than 1048576 bytes"},
		"open a directory": {hello + `{"op":"open","path":"etc"}` + "\n" + `{"op":"done"}`, &Catalog{Packages: []Package{{Type: "reply", Name: "etc", Version: `{"error":"not a regular file"}`}}}, ""},
		"list a file":      {hello + `{"op":"readdir","path":"etc/name"}` + "\n" + `{"op":"done"}`, &Catalog{Packages: []Package{{Type: "reply", Name: "etc/name", Version: `{"missing":true}`}}}, ""},
		"no last newline":  {strings.TrimSuffix(hello, "\n"), nil, "ended too early"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := newCataloguer(t, c.script).View(t.Context(), files)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestChain checks that the catalogue of a chain is kept, made again when it is damaged, and bounded.
func TestChain(t *testing.T) {
	t.Parallel()
	c := newCataloguer(t, hello+`{"op":"package","package":{"type":"deb","name":"a","path":"p"}}`+"\n"+`{"op":"done"}`)
	chain := []digest.Digest{digest.FromString("1"), digest.FromString("2")}
	opened := 0
	list := func(chain []digest.Digest) *Catalog {
		t.Helper()
		got, err := c.Chain(t.Context(), chain, func(context.Context) (view.View, error) { opened++; return view.Empty(), nil })
		if err != nil || len(got.Packages) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		return got
	}
	first := list(chain)
	if diff := cmp.Diff(first, list(chain)); diff != "" || opened != 1 {
		t.Errorf("opened %d times, want 1; %s", opened, diff)
	}
	if list(chain[:1]); opened != 2 {
		t.Errorf("another chain: opened %d times, want 2", opened)
	}
	for range 2 { // a directory, whose files may have changed
		before := opened
		if list(nil); opened != before+1 {
			t.Errorf("without layers: opened %d times, want %d", opened, before+1)
		}
	}
	for _, damage := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte{0}, 100)} {
		before := opened
		if err := os.WriteFile(c.path(cacheKey(chain)), damage, 0o600); err != nil {
			t.Fatal(err)
		}
		if list(chain); opened != before+1 {
			t.Errorf("damaged by %q: opened %d times, want %d", damage, opened, before+1)
		}
	}
	if freed, err := prune(c.Store, 1); err != nil || freed == 0 {
		t.Errorf("prune: %d, %v", freed, err)
	}
	if entries, err := os.ReadDir(directory(c.Store)); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v, want one", entries, err)
	}
	if freed, err := RemoveAll(c.Store); err != nil || freed == 0 {
		t.Errorf("remove all: %d, %v", freed, err)
	}
	if freed, err := RemoveAll(c.Store); err != nil || freed != 0 {
		t.Errorf("remove all again: %d, %v", freed, err)
	}
}

// TestWarnings checks that the list of warnings is bounded and says so, and that a list that another try may complete is not kept.
func TestWarnings(t *testing.T) {
	t.Parallel()
	script := hello + strings.Repeat(`{"op":"warn","path":"x","text":"damaged"}`+"\n", maxSkipped+5)
	c := newCataloguer(t, script+`{"op":"done"}`)
	got, err := c.View(t.Context(), view.Empty())
	if err != nil || len(got.Skipped) != maxSkipped+1 || !slices.Contains(got.Skipped, "5 more files") {
		t.Errorf("%d warnings, %v", len(got.Skipped), err)
	}
	for again, kept := range map[bool]int{true: 0, false: 1} {
		c := newCataloguer(t, hello+fmt.Sprintf(`{"op":"warn","path":"x","text":"slow","again":%v}`, again)+"\n"+`{"op":"done"}`)
		if _, err := c.Chain(t.Context(), []digest.Digest{digest.FromString("1")}, func(context.Context) (view.View, error) { return view.Empty(), nil }); err != nil {
			t.Fatal(err)
		}
		if entries, _ := os.ReadDir(directory(c.Store)); len(entries) != kept {
			t.Errorf("again %v: %d lists are kept, want %d", again, len(entries), kept)
		}
	}
}

// TestNames checks that a name that JSON does not have is said, and hides no other.
func TestNames(t *testing.T) {
	t.Parallel()
	c := newCataloguer(t, hello+`{"op":"readdir","path":"opt"}`+"\n"+`{"op":"done"}`)
	got, err := c.View(t.Context(), view.Files(map[string][]byte{"opt/caf\xe9": nil, "opt/b\xff": nil, "opt/a\nb": nil}))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Packages) != 1 || got.Packages[0].Version != `{"files":[{"name":"a\nb","mode":420}]}` {
		t.Errorf("%+v", got.Packages)
	}
	if want := `names that are not UTF-8: 2, such as "opt/b\xff"`; len(got.Skipped) != 1 || got.Skipped[0] != want {
		t.Errorf("%q, want %q", got.Skipped, want)
	}
}

// broken is a view whose files cannot be read.
type broken struct {
	view.View
	err error
}

func (b broken) Open(context.Context, string) (io.ReadCloser, error) { return nil, b.err }

// TestBroken checks that a damaged layer, or a full disk, is no list of what could be read.
func TestBroken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err   error
		fatal bool
	}{
		{store.ErrDamaged, true},
		{&fs.PathError{Op: "write", Path: "x", Err: unix.ENOSPC}, true},
		{errors.New("connection refused"), true},
		{&fs.PathError{Op: "open", Path: "x", Err: unix.EACCES}, false},
	} {
		files := broken{view.Files(map[string][]byte{"etc/name": []byte("content")}), c.err}
		_, err := newCataloguer(t, hello+`{"op":"open","path":"etc/name"}`+"\n"+`{"op":"done"}`).View(t.Context(), files)
		if c.fatal && !errors.Is(err, c.err) || !c.fatal && err != nil {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}

// TestCancelled checks that an interrupted catalogue says that it was, and leaves no process.
func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	files := cancelling{view.Files(map[string][]byte{"etc/name": nil}), cancel}
	_, err := newCataloguer(t, hello+`{"op":"open","path":"etc/name"}`+"\nwait").View(ctx, files)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// cancelling is a view that cancels when a file is opened.
type cancelling struct {
	view.View
	cancel func()
}

func (c cancelling) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	c.cancel()
	return c.View.Open(ctx, name)
}

func TestLimited(t *testing.T) {
	t.Parallel()
	data, err := io.ReadAll(&limited{strings.NewReader("123456"), 4})
	if string(data) != "1234" || err == nil || !strings.Contains(err.Error(), "sent more than") {
		t.Errorf("%q, %v", data, err)
	}
}

// FuzzRequests checks that no request ends mica, and that none is answered with what is not in the view.
func FuzzRequests(f *testing.F) {
	for _, text := range []string{`{"op":"stat","path":"../../etc/name"}`, `{"op":"readdir","path":"loop/x"}`, `{"op":"open","path":"etc"}`, `{"op":"package"}`, `{"op":"warn","path":"a"}`, `{"op":"done"}`} {
		f.Add(hello + text + "\n")
	}
	f.Fuzz(func(t *testing.T, text string) {
		var replies bytes.Buffer
		s := &server{view: view.Files(map[string][]byte{"etc/name": nil}), dir: t.TempDir(), enc: json.NewEncoder(&replies), descriptors: nil}
		err := s.run(t.Context(), strings.NewReader(text))
		if err == nil && !s.done {
			t.Error("it ended without an error")
		}
		for dec := json.NewDecoder(&replies); dec.More(); {
			var r reply
			if err := dec.Decode(&r); err != nil || r.File != nil && !slices.Contains([]string{"etc", "name", "."}, r.File.Name) {
				t.Errorf("%+v, %v", r, err)
			}
		}
	})
}

func TestNotInstalled(t *testing.T) {
	t.Parallel()
	c := newCataloguer(t, "")
	c.Program = filepath.Join(t.TempDir(), Program)
	_, err := c.View(t.Context(), view.Empty())
	if !errors.As(err, new(*NotInstalledError)) || !strings.Contains(err.Error(), "put it beside mica or on PATH") {
		t.Errorf("error %v", err)
	}
}

// TestProtocol checks that mica-catalog, a module of its own, has the same protocol.
func TestProtocol(t *testing.T) {
	t.Parallel()
	ours, err := os.ReadFile("protocol.go")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile("../../cmd/mica-catalog/protocol.go")
	if err != nil {
		t.Fatal(err)
	}
	_, ours, _ = bytes.Cut(ours, []byte("\n"))
	_, theirs, _ = bytes.Cut(theirs, []byte("\n"))
	if diff := cmp.Diff(string(ours), string(theirs)); diff != "" {
		t.Errorf("-internal/catalog +cmd/mica-catalog:\n%s", diff)
	}
}
