package container

import (
	"path"
	"slices"
	"testing"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/mount"

	"github.com/micabuild/mica/internal/sandbox"
)

// readMount is what one --mount becomes.
func readMount(flag string) (sandbox.Mount, error) {
	var o opts.MountOpt
	if err := o.Set(flag); err != nil {
		return sandbox.Mount{}, err
	}
	return checkedMount(o.Value()[0], false)
}

func TestMountFlag(t *testing.T) {
	for flag, want := range map[string]sandbox.Mount{
		"type=bind,src=/s,dst=/t":                                          {Source: "/s", Target: "/t"},
		"type=bind,source=/s,target=/t,readonly":                           {Source: "/s", Target: "/t", ReadOnly: true},
		"type=bind,src=/s,destination=/t,ro=true,bind-propagation=private": {Source: "/s", Target: "/t", ReadOnly: true},
		"type=bind,src=/s,dst=/t,bind-recursive=disabled":                  {Source: "/s", Target: "/t", TopOnly: true},
		"type=bind,src=/s,dst=/t,ro,bind-recursive=writable":               {Source: "/s", Target: "/t", ReadOnly: true, TopReadOnly: true},
		"type=volume,dst=/t,volume-nocopy":                                 {Target: "/t"},
		"dst=/t":                                                           {Target: "/t"},
		"type=tmpfs,dst=/t":                                                {Type: sandbox.MountTmpfs, Target: "/t", Options: "nodev,noexec"},
		"type=tmpfs,dst=/t,ro,tmpfs-size=1m,tmpfs-mode=0700":               {Type: sandbox.MountTmpfs, Target: "/t", ReadOnly: true, Size: 1 << 20, Options: "nodev,noexec,mode=700"},
	} {
		got, err := readMount(flag)
		if err != nil || got.Type != want.Type || got.Source != want.Source || got.Target != want.Target || got.ReadOnly != want.ReadOnly ||
			got.TopOnly != want.TopOnly || got.TopReadOnly != want.TopReadOnly || got.Size != want.Size || got.Options != want.Options {
			t.Errorf("%s: %+v %v, want %+v", flag, got, err, want)
		}
	}
}

// The errors are Docker's, but where Docker has what mica has not.
func TestMountFlagErrors(t *testing.T) {
	for flag, want := range map[string]string{
		"type=bind,src=/s":                                "field Target must not be empty",
		"type=bind,src=/s,dst=/":                          "invalid specification: destination can't be '/'",
		"type=bind,src=/s,dst=t":                          "invalid mount path: 't' mount path must be absolute",
		"type=bind,src=s,dst=/t":                          "invalid mount path: 's' mount path must be absolute",
		"type=bind,dst=/t":                                "field Source must not be empty",
		"type=bind,src=/s,dst=/t,bind-propagation=x":      "invalid propagation mode: x",
		"type=bind,src=/s,dst=/t,bind-propagation=rslave": "bind-propagation rslave is not possible: the mounts of a container are its own: use rprivate",
		"type=bind,src=/s,dst=/t,volume-nocopy":           "cannot mix 'volume-*' options with mount type 'bind'",
		"type=tmpfs,src=/s,dst=/t":                        "field Source must not be specified",
		"type=tmpfs,dst=/t,tmpfs-size=x":                  "invalid value for tmpfs-size: x",
		"type=x,dst=/t":                                   "mount type unknown",
		"type=npipe,dst=/t":                               "mica has bind, volume and tmpfs mounts: use one of these",
		"src=name,dst=/t":                                 "named volumes are not supported: name: use type=bind with a path",
		"dst=/t,volume-driver=x":                          "volume drivers are not supported: use type=bind with a path",
		"dst=/t,volume-subpath=x":                         "volume-subpath needs a named volume, which mica has not",
		"dst":                                             "invalid field 'dst' must be a key=value pair",
		"type=bind,src=/s,dst=/t,bind-recursive=writable": "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
		"type=bind,src=/s,dst=/t,nonsense=1":              "unknown option 'nonsense' in 'nonsense=1'",
	} {
		if _, err := readMount(flag); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", flag, err, want)
		}
	}
}

// Docker's API has named volumes, too.
func TestMountNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		given mount.Mount
		err   string
	}{
		"a name":      {given: mount.Mount{Type: mount.TypeVolume, Source: "data", Target: "/t", ReadOnly: true}},
		"a subpath":   {given: mount.Mount{Type: mount.TypeVolume, Source: "data", Target: "/t", VolumeOptions: &mount.VolumeOptions{Subpath: "x"}}},
		"no name":     {given: mount.Mount{Type: mount.TypeVolume, Target: "/t"}},
		"no target":   {given: mount.Mount{Type: mount.TypeVolume, Source: "data"}, err: `invalid mount config for type "volume": field Target must not be empty`},
		"a driver":    {given: mount.Mount{Type: mount.TypeVolume, Source: "data", Target: "/t", VolumeOptions: &mount.VolumeOptions{DriverConfig: &mount.Driver{Name: "nfs"}}}, err: `invalid mount config for type "volume": volume drivers are not supported: use type=bind with a path`},
		"a directory": {given: mount.Mount{Type: mount.TypeBind, Source: "/no/such", Target: "/t"}, err: `invalid mount config for type "bind": bind source path does not exist: /no/such`},
	} {
		got, err := MountNamed(c.given)
		if text(err) != c.err || err == nil && (got.Target != c.given.Target || got.ReadOnly != c.given.ReadOnly || got.Source != "") {
			t.Errorf("%s: %+v, %v, want %q", name, got, err, c.err)
		}
	}
}

// Mounts below others come after these.
func TestSortMounts(t *testing.T) {
	t.Parallel()
	list := []sandbox.Mount{{Target: "/a/b/c"}, {Target: "/z/"}, {Target: "/a/b"}, {Target: "/a"}}
	SortMounts(list)
	var got []string
	for _, m := range list {
		got = append(got, m.Target)
	}
	if want := []string{"/z/", "/a", "/a/b", "/a/b/c"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Whatever is typed, a mount that is accepted is at an absolute path below the root, and no source is a relative path.
func FuzzMountFlag(f *testing.F) {
	for _, seed := range []string{
		"type=bind,src=/s,dst=/t,ro", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777", "dst=/t,volume-nocopy", `type=bind,"src=/a,b",dst=/t`,
		"type=bind,src=.,dst=//", "type=bind,src=/s,dst=/../..", "type=bind,src=/s,dst=/t,bind-recursive=readonly,ro,bind-propagation=rprivate",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, flag string) {
		m, err := readMount(flag)
		if err != nil {
			return
		}
		if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" || m.Source != "" && !path.IsAbs(m.Source) || m.Size < 0 {
			t.Errorf("%q: %+v", flag, m)
		}
	})
}
