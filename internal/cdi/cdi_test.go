package cdi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const gpus = `{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "containerEdits": {"env": ["ALL=1"]},
	"devices": [{"name": "0", "containerEdits": {"env": ["ONE=0"]}}, {"name": "all", "containerEdits": {"env": ["ONE=all"]}}]}`

// specifications writes files into two directories, of which the second takes precedence.
func specifications(t *testing.T, files map[string]string) []string {
	t.Helper()
	top := t.TempDir()
	for name, text := range files {
		path := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{filepath.Join(top, "etc"), filepath.Join(top, "run")}
}

func TestFind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		files       map[string]string
		devices     string
		want, fails string
	}{
		{"none", nil, "", "", ""},
		{"what is common once", map[string]string{"etc/n.json": gpus}, "nvidia.com/gpu=0 nvidia.com/gpu=all", "ALL=1 ONE=0 ONE=all", ""},
		{"missing", map[string]string{"etc/n.json": gpus}, "nvidia.com/gpu=1 a/b=c", "", "unresolvable CDI devices nvidia.com/gpu=1, a/b=c"},
		{"the later directory", map[string]string{"etc/n.json": gpus, "run/n.yaml": "kind: nvidia.com/gpu\ndevices:\n- name: '0'\n  containerEdits: {env: [NEW=0]}\n"}, "nvidia.com/gpu=0", "NEW=0", ""},
		{"twice", map[string]string{"etc/a.json": gpus, "etc/b.json": gpus}, "nvidia.com/gpu=0", "", "both"},
		{"broken beside", map[string]string{"etc/a.json": gpus, "etc/b.json": "{"}, "nvidia.com/gpu=0", "ALL=1 ONE=0", ""},
		{"broken", map[string]string{"etc/b.json": "{"}, "nvidia.com/gpu=0", "", "read CDI specification"},
		{"kind", map[string]string{"etc/b.json": `{"kind": "x"}`}, "x/y=z", "", `invalid kind "x"`},
		{"relative node", map[string]string{"etc/b.json": `{"kind": "x/y", "devices": [{"name": "z", "containerEdits": {"deviceNodes": [{"path": "dev/x"}]}}]}`}, "x/y=z", "", "device z: a device node needs an absolute path"},
		{"a mount without a source", map[string]string{"etc/b.json": `{"kind": "x/y", "containerEdits": {"mounts": [{"containerPath": "/x"}]}}`}, "x/y=z", "", "a mount needs a hostPath"},
		{"a mount on the root", map[string]string{"etc/b.json": `{"kind": "x/y", "containerEdits": {"mounts": [{"hostPath": "/x", "containerPath": "/x/.."}]}}`}, "x/y=z", "", "an absolute containerPath"},
		{"a relative hook", map[string]string{"etc/b.json": `{"kind": "x/y", "containerEdits": {"hooks": [{"path": "x"}]}}`}, "x/y=z", "", "a hook needs an absolute path"},
		{"a variable without a name", map[string]string{"etc/b.json": `{"kind": "x/y", "containerEdits": {"env": ["=x"]}}`}, "x/y=z", "", `invalid environment variable "=x"`},
		{"a device without a name", map[string]string{"etc/b.json": `{"kind": "x/y", "devices": [{"name": "/"}]}`}, "x/y=z", "", "read CDI specification"},
		{"a directory with the name of a file", map[string]string{"etc/b.json/file": ""}, "x/y=z", "", "not a regular file of at most 4 MiB"},
		{"other files", map[string]string{"etc/readme.txt": "{", "etc/n.json": gpus}, "nvidia.com/gpu=0", "ALL=1 ONE=0", ""},
		{"unknown", map[string]string{"etc/b.json": `{"kind": "x/y", "containerEdits": {"intelRdt": {"closID": "x"}}}`}, "x/y=z", "", "netDevices and intelRdt are not supported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			edits, err := find(specifications(t, c.files), strings.Fields(c.devices))
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("%v, want %s", err, c.fails)
				}
				return
			}
			var env []string
			for _, e := range edits {
				env = append(env, e.Env...)
			}
			if got := strings.Join(env, " "); err != nil || strings.TrimSpace(got) != c.want {
				t.Errorf("%q %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestIsName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"nvidia.com/gpu=all": true, "a/b=c": true, "v/c=GPU-1:0": true, "/dev/x": false, "a/b": false, "a/b=": false, "a/b=c/d": false, "a-/b=c": false,
		"1/b=c": false, "": false, "=": false,
	} {
		if IsName(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
}

// Edits come in the order of the devices, the common ones of a specification before those of its first device.
func TestFindOrder(t *testing.T) {
	t.Parallel()
	dirs := specifications(t, map[string]string{
		"etc/a.json": `{"kind": "a/x", "containerEdits": {"env": ["A=common"]}, "devices": [{"name": "1", "containerEdits": {"env": ["A=1"]}}, {"name": "2", "containerEdits": {"env": ["A=2"]}}]}`,
		"etc/b.yaml": "kind: b/x\ncontainerEdits: {env: [B=common]}\ndevices: [{name: '1', containerEdits: {env: [B=1], deviceNodes: [{path: /dev/b}], hooks: [{hookName: prestart, path: /bin/h}]}}]\n",
	})
	edits, err := find(dirs, []string{"b/x=1", "a/x=2", "a/x=1"})
	if err != nil {
		t.Fatal(err)
	}
	var env []string
	for _, e := range edits {
		env = append(env, e.Env...)
	}
	if got := strings.Join(env, " "); got != "B=common B=1 A=common A=2 A=1" {
		t.Errorf("%s", got)
	}
	if d := edits[1]; len(d.DeviceNodes) != 1 || d.DeviceNodes[0].Path != "/dev/b" || len(d.Hooks) != 1 || d.Hooks[0].Path != "/bin/h" {
		t.Errorf("%+v", d)
	}
}

// A directory that cannot be read is not taken for one without specifications.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := find([]string{file}, []string{"a/b=c"}); err == nil || !strings.HasPrefix(err.Error(), "read CDI specifications: ") {
		t.Errorf("%v", err)
	}
	large := specifications(t, map[string]string{"etc/a.json": gpus + strings.Repeat(" ", maxSpec)})
	if _, err := find(large, []string{"nvidia.com/gpu=0"}); err == nil || !strings.Contains(err.Error(), "at most 4 MiB") {
		t.Errorf("a large file: %v", err)
	}
}

// FuzzSpecification: a specification is read or refused.
func FuzzSpecification(f *testing.F) {
	for _, seed := range []string{gpus, "kind: a/b\ndevices: [{name: c, containerEdits: {hooks: [null], mounts: [{}]}}]", "{", "&a [*a]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := parse(data)
		if err == nil && !kinds().MatchString(spec.Kind) {
			t.Errorf("kind %q", spec.Kind)
		}
	})
}
