package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/account"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/overlay"
	"github.com/micabuild/mica/internal/pty"
	"github.com/micabuild/mica/internal/userns"
)

// containerID is the name of each container for the runtime. Each run has a state directory of its own.
const containerID = "mica"

// bundle is the directory of one run: the OCI bundle with its config.json and rootfs, and the sources of mounts.
type bundle struct {
	dir    string
	rootfs string
	// root is the mount of rootfs that is the process's root directory, with all mounts in it.
	root string
	p    *Process
	// sources are the paths in the bundle of the sources of p.Mounts; left tells which of p.Mounts the runtime mounts.
	sources []string
	left    []bool
	// mounted and listeners end with the run.
	mounted   []string
	listeners []net.Listener
	ids       account.IDs
	// env is the process's environment.
	env []string
	// host are the ids of this user namespace.
	host userns.IDs
	// own is the network that is not the host's, nil for none.
	own *network.Namespace
	// crun is set if the runtime is crun.
	crun bool
	// cgroup is the delegated cgroup, and owner the prefix of the names of this mica's cgroups.
	cgroup, owner string
}

// run prepares the bundle and runs it, on a thread with namespaces of its own.
func (h *Host) run(ctx context.Context, p *Process, dir string) (err error) {
	// The files of a run are in memory: making and removing them on a disk takes longer than some steps.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700"); err != nil {
		return fmt.Errorf("prepare sandbox: mount %s: %w", dir, err)
	}
	b := &bundle{dir: dir, rootfs: filepath.Join(dir, "rootfs"), p: p.withInit().withDevices(h.ids.Nested()), crun: h.isCrun(), host: h.ids, cgroup: h.cgroup, owner: h.owner}
	defer b.unmount()
	if err := b.mount(); err != nil {
		return err
	}
	if err := b.prepare(); err != nil {
		return err
	}
	clean := b.stubCleaner()
	defer func() {
		b.detach()
		clean()
		if err == nil {
			err = b.seal()
		}
	}()
	if err := b.attach(); err != nil {
		return err
	}
	if b.env, err = account.WithHome(p.Env, b.root, b.ids.UID); err != nil {
		return err
	}
	if err := h.checkAccounts(b); err != nil {
		return err
	}
	if err := h.attachNetwork(ctx, b); err != nil {
		return err
	}
	return h.start(ctx, b)
}

// start runs the prepared bundle.
func (h *Host) start(ctx context.Context, b *bundle) error {
	spec, err := b.spec()
	if err != nil {
		return err
	}
	args := []string{"run", "--bundle", b.dir}
	if b.p.TTY && h.isCrun() {
		args = append(args, "--console-socket", pty.Socket)
	}
	cmd := h.command(b.dir, append(args, containerID)...)
	var t *pty.Terminal
	if b.p.TTY {
		if t, err = h.terminal(cmd, b); err != nil {
			return fmt.Errorf("prepare sandbox: %w", err)
		}
		defer t.Release()
		if size := t.Size(); size != nil {
			spec.Process.ConsoleSize = &specs.Box{Height: uint(size.Row), Width: uint(size.Col)}
		}
	}
	if err := h.adaptSpec(spec); err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	if err := b.write(spec); err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	return h.exec(ctx, b, t, cmd)
}

// mount mounts the root filesystem and the sources of mounts. The lowest layer of the root is a directory with all mount
// points: the runtime finds them there and makes none in the upper directory.
func (b *bundle) mount() error {
	if err := os.Mkdir(b.rootfs, 0o755); err != nil {
		return fmt.Errorf("prepare root filesystem: %w", err)
	}
	for i, m := range b.p.Mounts {
		src, err := b.source(i, m)
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, cause(err))
		}
		b.sources = append(b.sources, src)
	}
	stubs := filepath.Join(b.dir, "stubs")
	if err := b.makeStubs(stubs); err != nil {
		return err
	}
	root := b.p.Root
	root.Lowers = append([]string{stubs}, root.Lowers...)
	if err := overlay.Mount(b.rootfs, b.rootfs+"-links", root, b.host.Nested()); err != nil {
		return err
	}
	var err error
	if b.left, err = b.leftToRuntime(); err != nil {
		return err
	}
	return b.checkTargets()
}

func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func (b *bundle) unmount() {
	for _, l := range b.listeners {
		_ = l.Close()
	}
	for _, dir := range slices.Concat([]string{b.rootfs}, b.mounted, []string{b.dir}) {
		if unix.Unmount(dir, 0) != nil {
			// The mount namespace ends with the thread anyway.
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	}
}

// prepare resolves the user and the command, and makes the working directory and the network's files.
func (b *bundle) prepare() (err error) {
	if b.ids, err = account.Lookup(b.rootfs, b.p.User, b.p.Groups); err != nil {
		return err
	}
	if err := b.makeCwd(); err != nil {
		return err
	}
	if !b.p.Init {
		if err := b.findExecutable(); err != nil {
			return err
		}
	}
	return b.makeNetworkFiles()
}

// checkAccounts rejects account files that runc must not read. runc looks up the ids in the files that the process will see,
// though it gets them as numbers. It reads devices and pipes too, and before 1.3 keeps a line of any length in memory.
func (h *Host) checkAccounts(b *bundle) error {
	if h.isCrun() {
		return nil
	}
	if err := account.Check(b.root); err != nil {
		return fmt.Errorf("%w: %s would read all of it; use crun, or mount a file on it", err, filepath.Base(h.runtime))
	}
	return nil
}

// write makes the bundle's configuration.
func (b *bundle) write(spec *specs.Spec) error {
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, "config.json"), data, 0o600)
}
