package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/frontend/gateway/client"

	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// newRef is a result with some files.
func newRef(t *testing.T) *resultRef {
	t.Helper()
	files := view.NewOverlay(view.Empty())
	at := int64(5_000_000_000)
	err := errors.Join(
		files.Mkdir(t.Context(), "/d", 0o750, false, &view.Chown{UID: 1, GID: 2}, &at),
		files.Mkfile(t.Context(), "/d/a.txt", 0o640, []byte("0123456789"), &view.Chown{UID: 3, GID: 4}, &at),
		files.Mkfile(t.Context(), "/d/b.md", 0o600, nil, nil, &at),
		files.Symlink(t.Context(), "d/a.txt", "/l", nil, &at),
		files.Symlink(t.Context(), "/d", "/ld", nil, &at),
	)
	if err != nil {
		t.Fatal(err)
	}
	return &resultRef{solver: &solver.Solver{}, result: &solver.Result{Local: files}, checker: dockerfile.NewChecker(nil)}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ref  *resultRef
		req  client.ReadRequest
		want string
		err  string
	}{
		"file":            {req: client.ReadRequest{Filename: "d/a.txt"}, want: "0123456789"},
		"absolute":        {req: client.ReadRequest{Filename: "/d/a.txt"}, want: "0123456789"},
		"link":            {req: client.ReadRequest{Filename: "l"}, want: "0123456789"},
		"through a link":  {req: client.ReadRequest{Filename: "ld/a.txt"}, want: "0123456789"},
		"range":           {req: client.ReadRequest{Filename: "l", Range: &client.FileRange{Offset: 3, Length: 4}}, want: "3456"},
		"range to beyond": {req: client.ReadRequest{Filename: "l", Range: &client.FileRange{Offset: 8, Length: 40}}, want: "89"},
		"range of no bytes": {
			req: client.ReadRequest{Filename: "l", Range: &client.FileRange{Offset: 3}},
		},
		"range from beyond": {req: client.ReadRequest{Filename: "l", Range: &client.FileRange{Offset: 30, Length: 4}}, err: "open l: EOF"},
		"missing":           {req: client.ReadRequest{Filename: "no"}, err: "open no: file does not exist"},
		"outside":           {req: client.ReadRequest{Filename: "../../etc/passwd"}, err: "open ../../etc/passwd: file does not exist"},
	} {
		got, err := newRef(t).ReadFile(t.Context(), c.req)
		if string(got) != c.want || text(err) != c.err {
			t.Errorf("%s: %q, %v; want %q, %q", name, got, err, c.want, c.err)
		}
	}
	if _, err := (*resultRef)(nil).ReadFile(t.Context(), client.ReadRequest{Filename: "x"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty filesystem: %v", err)
	}
	long := &resultRef{result: &solver.Result{Local: view.Files(map[string][]byte{"f": make([]byte, maxRead+1)})}}
	if _, err := long.ReadFile(t.Context(), client.ReadRequest{Filename: "f"}); text(err) != fmt.Sprintf("open f: file is larger than %d bytes", maxRead) {
		t.Errorf("a long file: %v", err)
	}
}

// TestReadDockerfile: what the compiler reads is checked first.
func TestReadDockerfile(t *testing.T) {
	t.Parallel()
	bomb := "FROM scratch\nARG A=0123456789\n" + strings.Repeat("ARG A="+strings.Repeat("${A}", 10)+"\n", 8)
	r := &resultRef{result: &solver.Result{Local: view.Files(map[string][]byte{"Dockerfile": []byte(bomb)})}, checker: dockerfile.NewChecker(nil)}
	var limit *dockerfile.LimitError
	if _, err := r.ReadFile(t.Context(), client.ReadRequest{Filename: "Dockerfile"}); !errors.As(err, &limit) || limit.Line != 8 {
		t.Errorf("%v", err)
	}
	if _, err := r.ReadFile(t.Context(), client.ReadRequest{Filename: "Dockerfile", Range: &client.FileRange{Length: 5}}); err != nil {
		t.Errorf("a part: %v", err)
	}
}

func TestStatFile(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		mode fs.FileMode
		size int64
		link string
		uid  uint32
	}{
		"d":       {mode: os.ModeDir | 0o750, uid: 1},
		"d/a.txt": {mode: 0o640, size: 10, uid: 3},
		"ld/b.md": {mode: 0o600},
		"l":       {mode: os.ModeSymlink | 0o777, link: "d/a.txt"},
	} {
		got, err := newRef(t).StatFile(t.Context(), client.StatRequest{Path: name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if fs.FileMode(got.Mode) != want.mode || got.Size != want.size || got.Linkname != want.link || got.Uid != want.uid || got.ModTime != 5_000_000_000 {
			t.Errorf("%s: %+v", name, got)
		}
		if got.Path != name[strings.LastIndexByte(name, '/')+1:] {
			t.Errorf("%s: path %s", name, got.Path)
		}
	}
	if _, err := newRef(t).StatFile(t.Context(), client.StatRequest{Path: "no"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestReadDir(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		req  client.ReadDirRequest
		want []string
		err  error
	}{
		"root":           {req: client.ReadDirRequest{Path: "."}, want: []string{"d", "l", "ld"}},
		"directory":      {req: client.ReadDirRequest{Path: "/d"}, want: []string{"a.txt", "b.md"}},
		"through a link": {req: client.ReadDirRequest{Path: "ld"}, want: []string{"a.txt", "b.md"}},
		"pattern":        {req: client.ReadDirRequest{Path: "d", IncludePattern: "*.md"}, want: []string{"b.md"}},
		"no match":       {req: client.ReadDirRequest{Path: "d", IncludePattern: "x"}},
		"missing":        {req: client.ReadDirRequest{Path: "no"}, err: fs.ErrNotExist},
	} {
		list, err := newRef(t).ReadDir(t.Context(), c.req)
		var got []string
		for _, s := range list {
			got = append(got, s.Path)
		}
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v; want %q, %v", name, got, err, c.want, c.err)
		}
	}
	if _, err := newRef(t).ReadDir(t.Context(), client.ReadDirRequest{Path: "d", IncludePattern: "["}); err == nil {
		t.Error("a pattern that is invalid matches")
	}
}

func TestStatTypes(t *testing.T) {
	t.Parallel()
	at := time.Unix(7, 0)
	for kind, want := range map[view.Type]fs.FileMode{
		view.TypeRegular: 0, view.TypeDir: os.ModeDir, view.TypeSymlink: os.ModeSymlink, view.TypeFifo: os.ModeNamedPipe,
		view.TypeChar: os.ModeDevice | os.ModeCharDevice, view.TypeBlock: os.ModeDevice,
	} {
		got := stat(&view.Entry{Path: "a/b", Type: kind, Mode: 0o6755, Major: 1, Minor: 2, ModTime: at})
		if m := fs.FileMode(got.Mode); m != want|os.ModeSetuid|os.ModeSetgid|0o755 || got.Path != "b" || got.Devmajor != 1 || got.Devminor != 2 || got.ModTime != 7e9 {
			t.Errorf("type %d: %v, %+v", kind, m, got)
		}
	}
}

// TestReferenceAsState: a result is an input of further graphs.
func TestReferenceAsState(t *testing.T) {
	t.Parallel()
	st, err := (*resultRef)(nil).ToState()
	if err != nil || st.Output() != nil {
		t.Errorf("the empty filesystem: %v, %v", st, err)
	}
	if err := (*resultRef)(nil).Evaluate(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := (&resultRef{}).ToState(); err == nil || !strings.HasPrefix(err.Error(), "build input result: ") {
		t.Errorf("without a definition: %v", err)
	}
}
