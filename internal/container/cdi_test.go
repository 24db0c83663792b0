package container

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	cdispecs "tags.cncf.io/container-device-interface/specs-go"

	"github.com/micabuild/mica/internal/runtimespec"
	"github.com/micabuild/mica/internal/sandbox"
)

// TestEdit: what a specification of CDI says replaces what was there before.
func TestEdit(t *testing.T) {
	t.Parallel()
	p := &sandbox.Process{
		Env: []string{"A=1", "B=2"}, Groups: []string{"5"},
		Mounts:   []sandbox.Mount{{Target: "/lib/x", Source: "/old"}, {Target: "/other"}},
		Settings: runtimespec.Settings{Devices: []runtimespec.Device{{Source: "/old", Node: specs.LinuxDevice{Path: "/dev/null"}}}},
	}
	mode := os.FileMode(0o600)
	err := edit(p, cdispecs.ContainerEdits{
		Env: []string{"B=3", "C=4"}, AdditionalGIDs: []uint32{0, 44},
		DeviceNodes: []*cdispecs.DeviceNode{{Path: "/dev/null", FileMode: &mode, Permissions: "r"}, {Path: "/dev/own", HostPath: "/dev/zero", Type: "b", Major: 7, Minor: 8}},
		Mounts: []*cdispecs.Mount{
			{HostPath: "/new", ContainerPath: "/lib/./x", Options: []string{"ro", "bind"}},
			{HostPath: "none", ContainerPath: "/run/t", Type: "tmpfs", Options: []string{"size=1m", "mode=755"}},
		},
		Hooks: []*cdispecs.Hook{{HookName: "createContainer", Path: "/bin/hook", Args: []string{"hook", "x"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"A=1", "B=3", "C=4"}, p.Env); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"5", "44"}, p.Groups); diff != "" {
		t.Error(diff)
	}
	wantMounts := []sandbox.Mount{
		{Target: "/other"}, {Target: "/lib/./x", Source: "/new", ReadOnly: true, TopOnly: true},
		{Type: sandbox.MountTmpfs, Target: "/run/t", Options: "size=1m,mode=755"},
	}
	if diff := cmp.Diff(wantMounts, p.Mounts, mountFields); diff != "" {
		t.Error(diff)
	}
	if len(p.Devices) != 2 {
		t.Fatalf("devices %+v", p.Devices)
	}
	null, own := p.Devices[0], p.Devices[1]
	if null.Source != "/dev/null" || null.Access != "r" || null.Node.Type != "c" || null.Node.Major != 1 || *null.Node.FileMode != 0o600 {
		t.Errorf("%+v", null)
	}
	if own.Source != "/dev/zero" || own.Access != "rwm" || own.Node.Path != "/dev/own" || own.Node.Type != "b" || own.Node.Major != 7 || own.Node.Minor != 8 {
		t.Errorf("%+v", own)
	}
	if h := p.Hooks.CreateContainer; len(h) != 1 || h[0].Path != "/bin/hook" || len(h[0].Args) != 2 {
		t.Errorf("%+v", p.Hooks)
	}
}

func TestEditRefuses(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]cdispecs.ContainerEdits{
		`unknown hook "x": CDI has createContainer, createRuntime, poststart, poststop, prestart, startContainer`: {Hooks: []*cdispecs.Hook{{HookName: "x"}}},
		"device /dev/no-such: no such file or directory":                                                          {DeviceNodes: []*cdispecs.DeviceNode{{Path: "/dev/no-such"}}},
		"device /etc: not a device node":                                                                          {DeviceNodes: []*cdispecs.DeviceNode{{Path: "/etc"}}},
	} {
		if err := edit(&sandbox.Process{}, e); text(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestDevices: the devices of a host that every Linux has.
func TestDevices(t *testing.T) {
	t.Parallel()
	p := &sandbox.Process{}
	d := Devices{Nodes: []string{"/dev/null:r", "/dev/zero:/dev/z:rw"}, Rules: []string{"c 1:3 rw", "a *:* rwm"}}
	if err := d.Check(); err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(p); err != nil {
		t.Fatal(err)
	}
	if len(p.Devices) != 2 || p.Devices[0].Node.Path != "/dev/null" || p.Devices[0].Access != "r" || p.Devices[1].Node.Path != "/dev/z" || p.Devices[1].Node.Minor != 5 {
		t.Errorf("%+v", p.Devices)
	}
	if r := p.DeviceRules; len(r) != 2 || *r[0].Major != 1 || *r[0].Minor != 3 || r[0].Access != "rw" || r[1].Major != nil || r[1].Type != "a" {
		t.Errorf("%+v", r)
	}
}

func TestDevicesFail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		of           Devices
		check, apply string // the beginnings of errors
	}{
		"a path that is relative": {of: Devices{Nodes: []string{"dev/x"}}, check: "dev/x is not an absolute path"},
		"a rule":                  {of: Devices{Rules: []string{"x"}}, check: `invalid argument "x" for "--device-cgroup-rule" flag: invalid device cgroup format 'x'`},
		"a large number":          {of: Devices{Rules: []string{"c 99999999999999999999:1 r"}}, check: "invalid device cgroup format 'c 99999999999999999999:1 r': value out of range"},
		"GPUs of nobody":          {of: Devices{GPUs: []container.DeviceRequest{{Driver: "x"}}}, check: `could not select device driver "x" with capabilities: []`},
		"no such device":          {of: Devices{Nodes: []string{dir + "/no"}}, apply: `error gathering device information while adding custom device "` + dir + `/no": no such file or directory`},
		"not a device":            {of: Devices{Nodes: []string{dir}}, apply: `error gathering device information while adding custom device "` + dir + `": not a device node`},
		"no specification":        {of: Devices{Nodes: []string{"nobody.test/thing=x"}}, apply: "CDI device injection failed: "},
	} {
		if err := c.of.Check(); c.check != text(err) {
			t.Errorf("%s: check: %v, want %q", name, err, c.check)
		}
		if err := c.of.Apply(&sandbox.Process{}); c.check == "" && !strings.HasPrefix(text(err), c.apply) {
			t.Errorf("%s: %v, want %q", name, err, c.apply)
		}
	}
}
