// Package cgroup finds the control groups in which processes are limited: those of root, or one that systemd delegates to an
// ordinary user.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/userns"
)

// Root is where the host's cgroups are mounted.
const Root = "/sys/fs/cgroup"

// marker is the environment variable for the cgroup that is delegated to this process. The process itself is in a leaf below it.
const marker = "_MICA_CGROUP"

// leaf is the cgroup below a delegated one that mica moves to: a cgroup that enables controllers for its children must have no
// processes (cgroups(7), "no internal processes").
const leaf = "mica-main"

// Delegated returns the cgroup that Prepare has found for an ordinary user, as in /proc/self/cgroup, or "".
func Delegated() string { return os.Getenv(marker) }

// Controllers returns the controllers that limits need, by their names in version 2.
func Controllers(r *specs.LinuxResources) []string {
	if r == nil {
		return nil
	}
	var need []string
	if r.CPU != nil {
		if r.CPU.Shares != nil || r.CPU.Quota != nil || r.CPU.Period != nil {
			need = append(need, "cpu")
		}
		if r.CPU.Cpus != "" || r.CPU.Mems != "" {
			need = append(need, "cpuset")
		}
	}
	if r.BlockIO != nil {
		need = append(need, "io")
	}
	if r.Memory != nil && *r.Memory != (specs.LinuxMemory{}) {
		need = append(need, "memory")
	}
	if r.Pids != nil {
		need = append(need, "pids")
	}
	return need
}

// Prepare makes sure that cgroups with controllers can be made for processes. Call it before entering a user namespace. Root
// can make cgroups anywhere. An ordinary user needs a delegated cgroup: Prepare takes the one that mica is in if no other
// process is, and otherwise replaces this process with one in a scope of the user's systemd; then it does not return.
func Prepare(args, controllers []string) error {
	host := hierarchy{Root}
	switch {
	case userns.IsRealRoot() && !userns.Current().Nested():
		return host.offer(controllers)
	case Delegated() != "":
		return nil
	}
	return host.delegate(args, controllers)
}

// all are the controllers that limits may need.
var all = []string{"cpu", "cpuset", "io", "memory", "pids"}

// Offer prepares for limits that others may ask for later, with the controllers that there are. It is Prepare without its errors: who asks
// for a limit gets one.
func Offer(args []string) {
	host := hierarchy{Root}
	if userns.IsRealRoot() && !userns.Current().Nested() {
		if host.unified() {
			host.shareAll("")
		}
		return
	}
	if Delegated() == "" && host.delegate(args, nil) == nil {
		host.shareAll(Delegated())
	}
}

// shareAll enables the controllers that a cgroup has for those below it, as far as possible.
func (h hierarchy) shareAll(own string) {
	for _, c := range all {
		if slices.Contains(h.words(own, "cgroup.controllers"), c) {
			_ = h.share(own, []string{c}) // a limit that needs it says why
		}
	}
}

func (h hierarchy) delegate(args, controllers []string) error {
	if !h.unified() {
		return errors.New("resource limits need root on this host, which has cgroups of version 1: run as root, or boot with systemd.unified_cgroup_hierarchy=1")
	}
	own, err := ownCgroup("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("resource limits: %w", err)
	}
	err = h.adopt(own, controllers)
	var foreign *notDelegatedError
	if errors.As(err, &foreign) && os.Getenv(scopeMarker) == "" {
		err = startInScope(args)
	}
	if err != nil {
		return err
	}
	return os.Setenv(marker, own)
}

// notDelegatedError is the error for a cgroup whose controllers mica cannot enable.
type notDelegatedError struct{ reason string }

func (e *notDelegatedError) Error() string {
	return "resource limits need a cgroup of your own: " + e.reason
}

// hierarchy is a directory where cgroups are mounted.
type hierarchy struct{ root string }

// unified reports whether these are cgroups of version 2 only.
func (h hierarchy) unified() bool {
	var st unix.Statfs_t
	return unix.Statfs(h.root, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// offer makes sure, as root, that the host has the controllers and that they are enabled.
func (h hierarchy) offer(controllers []string) error {
	if len(controllers) == 0 {
		return nil
	}
	if !h.unified() {
		missing := slices.DeleteFunc(slices.Clone(controllers), h.mounted)
		return kernelLacks(missing)
	}
	if err := kernelLacks(missing(h.words("cgroup.controllers"), controllers)); err != nil {
		return err
	}
	err := h.share("", controllers)
	if errors.Is(err, unix.EBUSY) {
		// In a container the root of the hierarchy is not the host's root cgroup.
		return &notDelegatedError{"this container's processes are in the cgroup that is to be shared out: move them to one below it, as docker:dind does"}
	}
	return err
}

func kernelLacks(controllers []string) error {
	if len(controllers) == 0 {
		return nil
	}
	return fmt.Errorf("resource limits: this host has no cgroup controller %s: see cgroup_disable and cgroup_enable on the kernel's command line, "+
		"and what is mounted in %s", strings.Join(controllers, ", "), Root)
}

// mounted reports whether a controller of version 1 is mounted.
func (h hierarchy) mounted(controller string) bool {
	if controller == "io" {
		controller = "blkio"
	}
	_, err := os.Stat(filepath.Join(h.root, controller, "cgroup.procs"))
	return err == nil
}

// adopt takes over a cgroup with no other process: it moves this process to a leaf below it, and enables the controllers.
func (h hierarchy) adopt(own string, controllers []string) error {
	dir := filepath.Join(h.root, own)
	for _, file := range []string{"", "cgroup.procs", "cgroup.subtree_control"} {
		if unix.Access(filepath.Join(dir, file), unix.W_OK) != nil {
			return &notDelegatedError{own + " is not writable: start mica in a session of systemd, or as root"}
		}
	}
	if procs := h.words(own, "cgroup.procs"); len(procs) != 1 || procs[0] != strconv.Itoa(os.Getpid()) {
		return &notDelegatedError{own + " has other processes: start mica in a session of systemd, or as root"}
	}
	if lacking := missing(h.words(own, "cgroup.controllers"), controllers); len(lacking) > 0 {
		return fmt.Errorf("resource limits: the cgroup controller %s is not delegated to you: run as root, or have root write "+
			"\"[Service]\\nDelegate=cpu cpuset io memory pids\" to /etc/systemd/system/user@.service.d/delegate.conf and log in again",
			strings.Join(lacking, ", "))
	}
	below := filepath.Join(dir, leaf)
	if err := os.Mkdir(below, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("resource limits: make a cgroup: %w", err)
	}
	if err := write(filepath.Join(below, "cgroup.procs"), strconv.Itoa(os.Getpid())); err != nil {
		return fmt.Errorf("resource limits: move to a cgroup: %w", err)
	}
	return h.share(own, controllers)
}

// share enables controllers for the cgroups below own.
func (h hierarchy) share(own string, controllers []string) error {
	for _, c := range missing(h.words(own, "cgroup.subtree_control"), controllers) {
		if err := write(filepath.Join(h.root, own, "cgroup.subtree_control"), "+"+c); err != nil {
			return fmt.Errorf("resource limits: enable the cgroup controller %s: %w", c, err)
		}
	}
	return nil
}

// words returns the words in a file of the hierarchy, none if it cannot be read.
func (h hierarchy) words(path ...string) []string {
	data, _ := os.ReadFile(filepath.Join(append([]string{h.root}, path...)...))
	return strings.Fields(string(data))
}

// missing returns the elements of want that have does not contain.
func missing(have, want []string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(c string) bool { return slices.Contains(have, c) })
}

// write writes to a file that exists.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// ownCgroup returns the cgroup of version 2 of this process.
func ownCgroup(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if own, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			if strings.HasPrefix(own, "/..") {
				return "", fmt.Errorf("the cgroup of this process, %s, is outside its cgroup namespace: run mica where its cgroup is visible", own)
			}
			return own, nil
		}
	}
	return "", fmt.Errorf("%s names no cgroup of version 2", file)
}
