package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func to[T any](v T) *T { return &v }

func TestCheck(t *testing.T) {
	t.Parallel()
	memory := func(m specs.LinuxMemory) *specs.LinuxResources { return &specs.LinuxResources{Memory: &m} }
	cpu := func(c specs.LinuxCPU) *specs.LinuxResources { return &specs.LinuxResources{CPU: &c} }
	const mb = int64(1 << 20)
	for want, r := range map[string]*specs.LinuxResources{
		"Minimum memory limit allowed is 6MB":                                                  memory(specs.LinuxMemory{Limit: to(6*mb - 1)}),
		"Minimum memoryswap limit should be larger than memory limit, see usage":               memory(specs.LinuxMemory{Limit: to(8 * mb), Swap: to(7 * mb)}),
		"You should always set the Memory limit when using Memoryswap limit, see usage":        memory(specs.LinuxMemory{Swap: to(7 * mb)}),
		"Minimum memory reservation allowed is 6MB":                                            memory(specs.LinuxMemory{Reservation: to(mb)}),
		"Minimum memory limit can not be less than memory reservation limit, see usage":        memory(specs.LinuxMemory{Limit: to(8 * mb), Reservation: to(9 * mb)}),
		"CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)": cpu(specs.LinuxCPU{Period: to(uint64(999))}),
		"CPU cfs quota can not be less than 1ms (i.e. 1000)":                                   cpu(specs.LinuxCPU{Quota: to(int64(999))}),
		"the minimum allowed cpu-shares is 2":                                                  cpu(specs.LinuxCPU{Shares: to(uint64(1))}),
		"the maximum allowed cpu-shares is 262144":                                             cpu(specs.LinuxCPU{Shares: to(uint64(262145))}),
		"Invalid value x for cpuset cpus: invalid format: x":                                   cpu(specs.LinuxCPU{Cpus: "x"}),
		"Invalid value 1-0 for cpuset mems: invalid format: 1-0":                               cpu(specs.LinuxCPU{Mems: "1-0"}),
		"Range of blkio weight is from 10 to 1000":                                             {BlockIO: &specs.LinuxBlockIO{Weight: to(uint16(9))}},
		"": {
			Memory:  &specs.LinuxMemory{Limit: to(6 * mb), Swap: to(int64(-1)), Reservation: to(6 * mb)},
			CPU:     &specs.LinuxCPU{Period: to(uint64(1000)), Quota: to(int64(1000)), Shares: to(uint64(2))},
			BlockIO: &specs.LinuxBlockIO{Weight: to(uint16(10))},
		},
	} {
		got := ""
		if err := Check(r); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("error is %q, want %q", got, want)
		}
	}
}

func TestCPUs(t *testing.T) {
	t.Parallel()
	if quota, period, err := CPUs(500_000_000); quota != 50_000 || period != 100_000 || err != nil {
		t.Errorf("half a CPU is %d of %d, %v", quota, period, err)
	}
	n := runtime.NumCPU()
	want := fmt.Sprintf("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", n, n)
	for _, nano := range []int64{-1, int64(n)*1e9 + 1} {
		if _, _, err := CPUs(nano); err == nil || err.Error() != want {
			t.Errorf("%d: %v", nano, err)
		}
	}
}

func TestParseSet(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0": "[0]", "0,3-5": "[0 3 4 5]", "3-3,0": "[3 0]",
		"": "", "-": "", "1-": "", "-1": "", "1,": "", "2-1": "", "a": "", "0-9000": "", "0-4294967295": "",
	} {
		got, err := ParseSet(text)
		if (err != nil) != (want == "") || err == nil && fmt.Sprint(got) != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}

// files makes a hierarchy of files with contents.
func files(t *testing.T, contents map[string]string) hierarchy {
	t.Helper()
	h := hierarchy{t.TempDir()}
	for name, text := range contents {
		path := filepath.Join(h.root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestAvailable(t *testing.T) {
	t.Parallel()
	for want, file := range map[string]string{"0-1": "cpuset/cpuset.cpus", "0-3": "cpuset.cpus.effective"} {
		if got := available(files(t, map[string]string{file: want + "\n"}).root, "cpus"); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

// TestAdapt: the hierarchy of a test is not a cgroup2 filesystem, as on a host with version 1.
func TestAdapt(t *testing.T) {
	t.Parallel()
	all := func() *specs.LinuxResources {
		return &specs.LinuxResources{
			Memory:  &specs.LinuxMemory{Limit: to(int64(8 << 20)), Swap: to(int64(16 << 20)), Swappiness: to(uint64(3)), DisableOOMKiller: to(true)},
			BlockIO: &specs.LinuxBlockIO{Weight: to(uint16(10))},
		}
	}
	r := all()
	warnings, err := files(t, map[string]string{
		"memory/memory.swappiness": "", "memory/memory.oom_control": "", "memory/memory.memsw.limit_in_bytes": "", "blkio/blkio.bfq.weight": "",
	}).adapt(r, true)
	if err != nil || len(warnings) > 0 || r.BlockIO == nil || r.Memory.Swap == nil || r.Memory.Swappiness == nil || r.Memory.DisableOOMKiller == nil {
		t.Errorf("a kernel that has all: %q, %v, %+v", warnings, err, r)
	}
	if warnings, err = (hierarchy{t.TempDir()}).adapt(r, false); err != nil || len(warnings) != 4 {
		t.Errorf("a kernel that has nothing: %q, %v", warnings, err)
	}
	if r.BlockIO != nil || r.Memory.Swap != nil || r.Memory.Swappiness != nil || r.Memory.DisableOOMKiller != nil || r.Memory.Limit == nil {
		t.Errorf("left are %+v", r.Memory)
	}
	if _, err = (hierarchy{t.TempDir()}).adapt(all(), true); err == nil || !strings.Contains(err.Error(), "--memory-swap") {
		t.Errorf("a limit of swap that nobody keeps: %v", err)
	}
	unlimited := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: to(int64(8 << 20)), Swap: to(int64(-1))}}
	if warnings, err = (hierarchy{t.TempDir()}).adapt(unlimited, true); err != nil || len(warnings) > 0 {
		t.Errorf("unlimited swap: %q, %v", warnings, err)
	}
}

func TestControllers(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]*specs.LinuxResources{
		"[]": {Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}},
		"[cpu cpuset io memory pids]": {
			CPU: &specs.LinuxCPU{Shares: to(uint64(2)), Mems: "0"}, BlockIO: &specs.LinuxBlockIO{}, Memory: &specs.LinuxMemory{Swappiness: to(uint64(1))},
			Pids: &specs.LinuxPids{},
		},
		"[cpu]":    {CPU: &specs.LinuxCPU{Quota: to(int64(1))}},
		"[cpuset]": {CPU: &specs.LinuxCPU{Cpus: "0"}},
	} {
		if got := fmt.Sprint(Controllers(r)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := Controllers(nil); got != nil {
		t.Errorf("no limits need %s", got)
	}
}

func TestOwnCgroup(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0::/user.slice/a:b.scope\n":              "/user.slice/a:b.scope",
		"4:memory:/x\n1:name=systemd:/y\n0::/z\n": "/z",
		"0::/../outside\n":                        "",
		"4:memory:/x\n":                           "",
	} {
		path := filepath.Join(t.TempDir(), "cgroup")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := ownCgroup(path); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestAdoptRefuses(t *testing.T) {
	t.Parallel()
	mine := fmt.Sprintln(os.Getpid())
	for want, contents := range map[string]map[string]string{
		"/own is not writable":     {"own/cgroup.procs": mine},
		"/own has other processes": {"own/cgroup.procs": mine + "1\n", "own/cgroup.subtree_control": ""},
		"the cgroup controller cpuset, io is not delegated to you": {
			"own/cgroup.procs": mine, "own/cgroup.subtree_control": "", "own/cgroup.controllers": "cpu memory pids\n",
		},
	} {
		err := files(t, contents).adopt("/own", []string{"cpuset", "io", "memory"})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

// Root needs nothing but controllers that the host has.
func TestOffer(t *testing.T) {
	t.Parallel()
	h := files(t, map[string]string{"memory/cgroup.procs": "", "blkio/cgroup.procs": ""})
	if err := h.offer([]string{"io", "memory"}); err != nil {
		t.Error(err)
	}
	if err := h.offer([]string{"cpu", "memory"}); err == nil || !strings.Contains(err.Error(), "no cgroup controller cpu:") {
		t.Errorf("error is %v", err)
	}
}

// text is what a file of a hierarchy holds.
func text(t *testing.T, h hierarchy, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestAdopt: this process moves to the leaf, and controllers that are not enabled yet are.
func TestAdopt(t *testing.T) {
	t.Parallel()
	mine := fmt.Sprint(os.Getpid())
	h := files(t, map[string]string{
		"own/cgroup.procs": mine + "\n", "own/cgroup.subtree_control": "", "own/cgroup.controllers": "cpu memory pids\n",
		"own/" + leaf + "/cgroup.procs": "",
	})
	if err := h.adopt("/own", []string{"memory"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"own/" + leaf + "/cgroup.procs": mine, "own/cgroup.subtree_control": "+memory"} {
		if got := text(t, h, name); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		enabled     string
		controllers []string
		want        string
	}{
		"none":            {"cpu", nil, "cpu"},
		"enabled already": {"cpu memory", []string{"memory", "cpu"}, "cpu memory"},
		"one":             {"", []string{"memory"}, "+memory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := files(t, map[string]string{"own/cgroup.subtree_control": c.enabled})
			if err := h.share("own", c.controllers); err != nil {
				t.Fatal(err)
			}
			if got := text(t, h, "own/cgroup.subtree_control"); got != c.want {
				t.Errorf("enabled are %q, want %q", got, c.want)
			}
		})
	}
	if err := (hierarchy{t.TempDir()}).share("own", []string{"io"}); err == nil || !strings.Contains(err.Error(), "enable the cgroup controller io") {
		t.Errorf("without a file to write to: %v", err)
	}
}

// TestDelegateNeedsVersion2: the hierarchy of a test is not a cgroup2 filesystem.
func TestDelegateNeedsVersion2(t *testing.T) {
	t.Parallel()
	if err := (hierarchy{t.TempDir()}).delegate(nil, nil); err == nil || !strings.Contains(err.Error(), "systemd.unified_cgroup_hierarchy=1") {
		t.Errorf("error is %v", err)
	}
}

// Root of a host with cgroups of version 2 shares out controllers by their names; what the host lacks is an error.
func TestMounted(t *testing.T) {
	t.Parallel()
	h := files(t, map[string]string{"blkio/cgroup.procs": "", "cpu/other": ""})
	for controller, want := range map[string]bool{"io": true, "blkio": true, "cpu": false, "memory": false} {
		if h.mounted(controller) != want {
			t.Errorf("%s: %t", controller, !want)
		}
	}
	if err := h.offer(nil); err != nil {
		t.Errorf("no controllers: %v", err)
	}
}

// A set that this host does not have is refused with the set that it has.
func TestCheckSet(t *testing.T) {
	t.Parallel()
	have := available(Root, "cpus")
	if _, err := ParseSet(have); err != nil {
		t.Skipf("this host shows no processors: %q", have)
	}
	if err := checkSet(have, "cpus", "CPUs"); err != nil {
		t.Errorf("all of %s: %v", have, err)
	}
	want := "Requested CPUs are not available - requested 8191, available: " + have
	if err := checkSet("8191", "cpus", "CPUs"); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
