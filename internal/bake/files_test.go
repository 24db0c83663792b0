package bake

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// inDirectory makes a directory with files the working directory.
func inDirectory(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadFiles(t *testing.T) {
	inDirectory(t, map[string]string{
		"docker-bake.override.hcl": "6", "docker-bake.override.json": "5", "docker-bake.hcl": "4", "docker-bake.json": "3", "docker-compose.yml": "2",
		"compose.yaml": "1", "own.hcl": "own", "empty.hcl": "", "sub/docker-bake.hcl": "sub", "docker-bake.yaml": "no",
	})
	for name, c := range map[string]struct {
		names []string
		stdin string
		want  []File
	}{
		"by convention": {want: []File{
			{"compose.yaml", []byte("1")}, {"docker-compose.yml", []byte("2")}, {"docker-bake.json", []byte("3")}, {"docker-bake.hcl", []byte("4")},
			{"docker-bake.override.json", []byte("5")}, {"docker-bake.override.hcl", []byte("6")},
		}},
		"named":      {names: []string{"own.hcl", "sub/docker-bake.hcl"}, want: []File{{"own.hcl", []byte("own")}, {"sub/docker-bake.hcl", []byte("sub")}}},
		"stdin":      {names: []string{"-"}, stdin: "in", want: []File{{"-", []byte("in")}}},
		"both":       {names: []string{"own.hcl", "-"}, stdin: "in", want: []File{{"own.hcl", []byte("own")}, {"-", []byte("in")}}},
		"one, empty": {names: []string{"empty.hcl", "own.hcl"}, want: []File{{"own.hcl", []byte("own")}}},
	} {
		got, err := ReadFiles(c.names, strings.NewReader(c.stdin))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestReadFilesErrors(t *testing.T) {
	inDirectory(t, map[string]string{"empty.hcl": "", "dir/f": ""})
	failure := errors.New("broken pipe")
	for name, c := range map[string]struct {
		names []string
		stdin io.Reader
		is    error
		want  string
	}{
		"nothing":      {want: "couldn't find a bake definition"},
		"empty":        {names: []string{"empty.hcl"}, want: "couldn't find a bake definition"},
		"missing":      {names: []string{"no.hcl"}, is: fs.ErrNotExist, want: "open no.hcl: no such file or directory"},
		"directory":    {names: []string{"dir"}, want: "read dir: is a directory"},
		"stdin":        {names: []string{"-"}, stdin: iotest.ErrReader(failure), is: failure, want: "read stdin: broken pipe"},
		"large, stdin": {names: []string{"-"}, stdin: io.LimitReader(zeros{}, maxFile+1), want: "read stdin: larger than 16777216 bytes"},
	} {
		_, err := ReadFiles(c.names, c.stdin)
		if err == nil || err.Error() != c.want || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	data, err := readFile("-", io.LimitReader(zeros{}, maxFile))
	if err != nil || len(data) != maxFile {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
