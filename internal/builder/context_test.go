package builder

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/solver/ops"
	"github.com/micabuild/mica/internal/view"
)

// writeFiles makes a directory with files.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// names lists the files of a local source.
func names(t *testing.T, l ops.Local) []string {
	t.Helper()
	v, err := l(view.DirOptions{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := v.ReadDir(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Path)
	}
	return names
}

func TestContexts(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM scratch", "f": "f", "sub/Other": "FROM scratch", "context.tar": ""})
	inline := []byte("FROM scratch")
	for name, c := range map[string]struct {
		context Context
		options map[string]string
		locals  map[string][]string // the files of each
		inputs  []string
	}{
		"directory": {
			context: DirContext{Dir: dir}, options: map[string]string{"filename": "Dockerfile"},
			locals: map[string][]string{"context": {"Dockerfile", "context.tar", "f", "sub"}, "dockerfile": {"Dockerfile", "context.tar", "f", "sub"}},
		},
		"Dockerfile elsewhere": {
			context: DirContext{Dir: dir, Dockerfile: filepath.Join(dir, "sub/Other")}, options: map[string]string{"filename": "Other"},
			locals: map[string][]string{"context": {"Dockerfile", "context.tar", "f", "sub"}, "dockerfile": {"Other"}},
		},
		"archive": {
			context: ArchiveContext{Dir: dir}, options: map[string]string{},
			locals: map[string][]string{"archive": {"Dockerfile", "context.tar", "f", "sub"}}, inputs: []string{"context", "dockerfile"},
		},
		"archive, Dockerfile": {
			context: ArchiveContext{Dir: dir, Dockerfile: "sub/Other"}, options: map[string]string{"filename": "sub/Other"},
			locals: map[string][]string{"archive": {"Dockerfile", "context.tar", "f", "sub"}}, inputs: []string{"context", "dockerfile"},
		},
		"URL": {
			context: RemoteContext{URL: "https://h/x.git"}, options: map[string]string{"context": "https://h/x.git"},
			locals: map[string][]string{"context": nil},
		},
		"URL, Dockerfile": {
			context: RemoteContext{URL: "https://h/x.git", Dockerfile: "D"}, options: map[string]string{"context": "https://h/x.git", "filename": "D"},
			locals: map[string][]string{"context": nil},
		},
		"nothing": {context: EmptyContext{}, options: map[string]string{}, locals: map[string][]string{"context": nil}},
		"text": {
			context: InlineDockerfile{EmptyContext{}, inline}, options: map[string]string{},
			locals: map[string][]string{"context": nil, "dockerfile": {"Dockerfile"}},
		},
		"text for a directory": {
			context: InlineDockerfile{DirContext{Dir: dir, Dockerfile: "/no/such"}, inline}, options: map[string]string{},
			locals: map[string][]string{"context": {"Dockerfile", "context.tar", "f", "sub"}, "dockerfile": {"Dockerfile"}},
		},
		"text for an archive": {
			context: InlineDockerfile{ArchiveContext{Dir: dir, Dockerfile: "x"}, inline}, options: map[string]string{},
			locals: map[string][]string{"archive": {"Dockerfile", "context.tar", "f", "sub"}, "dockerfile": {"Dockerfile"}}, inputs: []string{"context"},
		},
		"text for a URL": {
			context: InlineDockerfile{RemoteContext{URL: "https://h/x.git"}, inline},
			options: map[string]string{"context": "https://h/x.git", "dockerfilekey": "dockerfile"},
			locals:  map[string][]string{"context": nil, "dockerfile": {"Dockerfile"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := c.context.check(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(c.options, c.context.options()); diff != "" {
				t.Error(diff)
			}
			locals := c.context.locals()
			if diff := cmp.Diff(slices.Sorted(maps.Keys(c.locals)), slices.Sorted(maps.Keys(locals))); diff != "" {
				t.Error(diff)
			}
			for key, want := range c.locals {
				if diff := cmp.Diff(want, names(t, locals[key])); diff != "" {
					t.Errorf("%s: %s", key, diff)
				}
			}
			if diff := cmp.Diff(c.inputs, slices.Sorted(maps.Keys(c.context.inputs()))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDockerfileOfDirContext(t *testing.T) {
	t.Parallel()
	lower := writeFiles(t, map[string]string{"dockerfile": ""})
	for name, c := range map[string]struct {
		context DirContext
		err     string
	}{
		"lower case":     {context: DirContext{Dir: lower}},
		"by its path":    {context: DirContext{Dir: "/no/such", Dockerfile: filepath.Join(lower, "dockerfile")}},
		"no directory":   {context: DirContext{Dir: "/no/such"}, err: "failed to solve: failed to read dockerfile: open /no/such/Dockerfile: no such file or directory"},
		"no file":        {context: DirContext{Dir: lower, Dockerfile: lower + "/D"}, err: "failed to solve: failed to read dockerfile: open " + lower + "/D: no such file or directory"},
		"other in lower": {context: DirContext{Dir: lower, Dockerfile: lower + "/DOCKERFILE"}, err: "failed to solve: failed to read dockerfile: open " + lower + "/DOCKERFILE: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := c.context.check(); text(err) != c.err {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}

// text is the text of an error, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
