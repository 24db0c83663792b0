package container

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/docker/cli/opts"

	"github.com/micabuild/mica/internal/cdi"
	"github.com/micabuild/mica/internal/runtimespec"
)

func TestDeviceFlag(t *testing.T) {
	for flag, want := range map[string]deviceFlag{
		"/dev/x":            {"/dev/x", "/dev/x", "rwm"},
		"/dev/x:r":          {"/dev/x", "/dev/x", "r"},
		"/dev/x:/dev/../y/": {"/dev/x", "/y", "rwm"},
		"/dev/x:/dev/y:mr":  {"/dev/x", "/dev/y", "mr"},
	} {
		if got, err := parseDevice(flag); err != nil || got != want {
			t.Errorf("%s: %+v %v", flag, got, err)
		}
	}
	for flag, want := range map[string]string{
		"":                   "bad format for path: ",
		"a:b:c:d":            "bad format for path: a:b:c:d",
		"/dev/x:/dev/y:rr":   "bad mode specified: rr",
		"/dev/x:/dev/y:":     "bad mode specified: ",
		"dev/x":              "dev/x is not an absolute path",
		"/dev/x:y":           "y is not an absolute path",
		"vendor.com/class=n": "vendor.com/class=n is not an absolute path",
	} {
		if _, err := parseDevice(flag); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", flag, err, want)
		}
	}
}

func TestGPUs(t *testing.T) {
	for flag, want := range map[string]string{
		"all": "nvidia.com/gpu=all", "2": "nvidia.com/gpu=0 nvidia.com/gpu=1", "0": "", `"device=0,GPU-1"`: "nvidia.com/gpu=0 nvidia.com/gpu=GPU-1",
		"driver=amd,count=1": "amd.com/gpu=0", "driver=cdi,device=a/b=c": "a/b=c", "capabilities=utility": "nvidia.com/gpu=0",
	} {
		var o opts.GpuOpts
		if err := o.Set(flag); err != nil {
			t.Fatal(err)
		}
		if got, err := gpuNames(o.Value()); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q %v", flag, got, err)
		}
	}
	for _, flag := range []string{"driver=x", "-2", "99999999", `count=1,"device=0"`, "driver=cdi,device=x", "device=a/b"} {
		var o opts.GpuOpts
		if err := o.Set(flag); err != nil {
			t.Fatal(err)
		}
		if got, err := gpuNames(o.Value()); err == nil {
			t.Errorf("%s: %q", flag, got)
		}
	}
}

// The errors are docker's and its daemon's.
func TestSecurityOptions(t *testing.T) {
	for flags, want := range map[string]runtimespec.Isolation{
		"no-new-privileges":                         {NoNewPrivileges: true},
		"no-new-privileges no-new-privileges:false": {},
		"no-new-privileges=true":                    {NoNewPrivileges: true},
		"seccomp=unconfined":                        {NoSeccomp: true},
		"seccomp:unconfined seccomp=builtin":        {},
		"systempaths=unconfined":                    {MaskedPaths: []string{}, ReadonlyPaths: []string{}},
		"apparmor=unconfined label=disable":         {},
		"label:disable":                             {},
	} {
		var got runtimespec.Isolation
		if err := securityOptions(strings.Fields(flags), &got); err != nil || got.NoNewPrivileges != want.NoNewPrivileges || got.NoSeccomp != want.NoSeccomp ||
			(got.MaskedPaths == nil) != (want.MaskedPaths == nil) || (got.ReadonlyPaths == nil) != (want.ReadonlyPaths == nil) || got.SeccompProfile != "" {
			t.Errorf("%s: %+v %v", flags, got, err)
		}
	}
	for flag, want := range map[string]string{
		"":                    `invalid --security-opt: ""`,
		"bogus":               `invalid --security-opt: "bogus"`,
		"bogus=1":             `invalid --security-opt 2: "bogus=1"`,
		"no-new-privileges=x": `invalid --security-opt 2: "no-new-privileges=x"`,
		"seccomp=/etc/passwd": "decoding seccomp profile failed: it is not JSON", // the engine reads no file
	} {
		if err := securityOptions([]string{flag}, &runtimespec.Isolation{}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", flag, err, want)
		}
	}
	for flag, want := range map[string]string{
		"bogus":               `invalid --security-opt: "bogus"`,
		"seccomp=/nosuch":     "opening seccomp profile (/nosuch) failed: open /nosuch: no such file or directory",
		"seccomp=/etc/passwd": "compacting json for seccomp profile (/etc/passwd) failed: invalid character 'r' looking for beginning of value",
	} {
		if list, err := ReadProfiles([]string{flag}); err == nil || err.Error() != want {
			t.Errorf("%s: %v %v, want %s", flag, list, err, want)
		}
	}
}

// Whatever is typed, a device is at an absolute path and may be used in some way, and what --gpus names are devices of CDI.
func FuzzDeviceFlags(f *testing.F) {
	for _, seed := range []string{"/dev/x:/dev/y:rwm", "all", `"device=0,1","capabilities=utility"`, "driver=cdi,device=a/b=c", "nvidia.com/gpu=0", "b 7:* rwm"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, flag string) {
		if d, err := parseDevice(flag); err == nil && (!path.IsAbs(d.target) || d.source == "" || !isDeviceAccess(d.access)) {
			t.Errorf("%q: %+v", flag, d)
		}
		if rule, err := parseDeviceRule(flag); err == nil && (!rule.Allow || rule.Access == "") {
			t.Errorf("%q: %+v", flag, rule)
		}
		var o opts.GpuOpts
		if o.Set(flag) != nil {
			return
		}
		if names, err := gpuNames(o.Value()); err == nil && slices.ContainsFunc(names, func(n string) bool { return !cdi.IsName(n) }) {
			t.Errorf("%q: %q", flag, names)
		}
	})
}
