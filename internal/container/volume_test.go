package container

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/mount"

	"github.com/micabuild/mica/internal/sandbox"
)

func TestParseVolume(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for flag, c := range map[string]struct {
		want      sandbox.Mount
		anonymous bool
		err       string
	}{
		"/data":           {want: sandbox.Mount{Target: "/data"}, anonymous: true},
		file + ":/f":      {want: sandbox.Mount{Source: file, Target: "/f"}},
		file + ":/f:ro":   {want: sandbox.Mount{Source: file, Target: "/f", ReadOnly: true}},
		file + ":/f:z,ro": {want: sandbox.Mount{Source: file, Target: "/f", ReadOnly: true}},
		file + ":/f:rw":   {want: sandbox.Mount{Source: file, Target: "/f"}},
		"./file:/f":       {want: sandbox.Mount{Source: file, Target: "/f"}},
		"..:/f":           {want: sandbox.Mount{Source: filepath.Dir(dir), Target: "/f"}},
		dir + "/made:/f":  {want: sandbox.Mount{Source: dir + "/made", Target: "/f"}},
		file + "/x:/f":    {want: sandbox.Mount{Source: file + "/x", Target: "/f"}}, // found out when it is mounted
		"a:b:c:d":         {err: "invalid volume specification: 'a:b:c:d'"},
		file + ":/f:x":    {err: "invalid volume specification: '" + file + ":/f:x': unknown option \"x\""},
		file + ":f":       {err: "invalid volume specification: '" + file + ":f': destination must be an absolute path other than /"},
		file + ":/x/..":   {err: "invalid volume specification: '" + file + ":/x/..': destination must be an absolute path other than /"},
		"data":            {err: "invalid volume specification: 'data': destination must be an absolute path other than /"},
		"name:/f":         {err: "invalid volume specification: 'name:/f': named volumes are not supported: use a path"},
		"":                {err: "invalid volume specification: '': destination must be an absolute path other than /"},
	} {
		got, anonymous, err := ParseVolume(flag)
		if text(err) != c.err || err == nil && (anonymous != c.anonymous || cmp.Diff(c.want, got, mountFields) != "") {
			t.Errorf("%s: %+v, %t, %v, want %+v, %t, %q", flag, got, anonymous, err, c.want, c.anonymous, c.err)
		}
	}
	if info, err := os.Stat("made"); err != nil || !info.IsDir() {
		t.Errorf("a source that is missing is made: %v", err)
	}
}

// The binds of Docker's API have sources that are paths, or names of volumes.
func TestParseBind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for flag, c := range map[string]struct {
		want   sandbox.Mount
		name   string
		noCopy bool
		err    string
	}{
		dir + ":/d":           {want: sandbox.Mount{Source: dir, Target: "/d"}},
		dir + "/new:/d:ro":    {want: sandbox.Mount{Source: dir + "/new", Target: "/d", ReadOnly: true}},
		"data:/d":             {want: sandbox.Mount{Target: "/d"}, name: "data"},
		"data:/d:ro,nocopy":   {want: sandbox.Mount{Target: "/d", ReadOnly: true}, name: "data", noCopy: true},
		"data:/d:nocopy":      {want: sandbox.Mount{Target: "/d"}, name: "data", noCopy: true},
		"../up:/d":            {want: sandbox.Mount{Target: "/d"}, name: "../up"}, // no name that a volume may have
		dir + ":/d:nocopy":    {err: "invalid volume specification: '" + dir + ":/d'"},
		"/d":                  {err: "invalid volume specification: '/d'"},
		":/d":                 {err: "invalid volume specification: ':/d'"},
		"data:d":              {err: "invalid volume specification: 'data:d': destination must be an absolute path other than /"},
		"data:/d:ro,rw":       {err: "invalid mode: ro,rw"},
		"data:/d:z,Z":         {err: "invalid mode: z,Z"},
		"data:/d:z,ro":        {want: sandbox.Mount{Target: "/d", ReadOnly: true}, name: "data"},
		"data:/d:ro,whatever": {err: "invalid volume specification: 'data:/d:ro,whatever': unknown option \"whatever\""},
	} {
		got, name, noCopy, err := ParseBind(flag)
		if text(err) != c.err || err == nil && (name != c.name || noCopy != c.noCopy || cmp.Diff(c.want, got, mountFields) != "") {
			t.Errorf("%s: %+v, %q, %t, %v, want %+v, %q, %t, %q", flag, got, name, noCopy, err, c.want, c.name, c.noCopy, c.err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "new")); err != nil || !info.IsDir() {
		t.Errorf("a source that is missing is made: %v", err)
	}
}

// mountFields compares mounts by the fields that flags set.
var mountFields = cmp.Comparer(func(a, b sandbox.Mount) bool {
	return a.Type == b.Type && a.Source == b.Source && a.Target == b.Target && a.ReadOnly == b.ReadOnly && a.TopOnly == b.TopOnly &&
		a.TopReadOnly == b.TopReadOnly && a.Size == b.Size && a.Options == b.Options
})

func TestTmpfs(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]sandbox.Mount{
		"/t":                      {Options: "nodev,noexec"},
		"/t:size=1m":              {Options: "nodev,noexec", Size: 1 << 20},
		"/t:exec,size=64k,mode=7": {Options: "nodev,noexec,exec,mode=7", Size: 64 << 10},
		"/t:size=50%":             {Options: "nodev,noexec,size=50%"},
	} {
		want.Type, want.Target = sandbox.MountTmpfs, "/t"
		if got, err := Tmpfs(flag); err != nil || cmp.Diff(want, got, mountFields) != "" {
			t.Errorf("%s: %+v, %v, want %+v", flag, got, err, want)
		}
	}
	for _, flag := range []string{"", "t", "t:size=1m"} {
		if _, err := Tmpfs(flag); text(err) != `invalid tmpfs "`+flag+`": the path must be absolute` {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestMountSource: the source of a bind mount has to be there, unless it is to be made.
func TestMountSource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	missing := mount.Mount{Type: mount.TypeBind, Source: dir + "/no", Target: "/t"}
	if _, err := Mount(missing); text(err) != `invalid mount config for type "bind": bind source path does not exist: `+dir+"/no" {
		t.Errorf("%v", err)
	}
	missing.BindOptions = &mount.BindOptions{CreateMountpoint: true}
	if got, err := Mount(missing); err != nil || got.Source != dir+"/no" {
		t.Errorf("%+v, %v", got, err)
	}
	if info, err := os.Stat(dir + "/no"); err != nil || !info.IsDir() {
		t.Errorf("it was not made: %v", err)
	}
	if _, err := Mount(mount.Mount{Type: "x", Target: "/t"}); text(err) != `invalid mount config for type "x": mount type unknown` {
		t.Errorf("%v", err)
	}
}

func TestCheckDuplicates(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		targets []string
		want    string
	}{
		"none": {}, "different": {targets: []string{"/a", "/b", "/a/b"}},
		"the same":       {[]string{"/a", "/b", "/a"}, "Duplicate mount point: /a"},
		"in other words": {[]string{"/a/b", "/a/./b/"}, "Duplicate mount point: /a/./b/"},
	} {
		var mounts []sandbox.Mount
		for _, target := range c.targets {
			mounts = append(mounts, sandbox.Mount{Target: target})
		}
		if err := CheckDuplicates(mounts); text(err) != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
