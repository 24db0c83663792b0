package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/account"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/overlay"
	"github.com/micabuild/mica/internal/podroot"
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
	// use is the root directory of the container, where the process runs there.
	use *podroot.Use
	// env is the process's environment.
	env []string
	// host are the ids of this user namespace.
	host userns.IDs
	// own is the network that is not the host's, nil for none.
	own *network.Namespace
	// network is the path of the process's namespace for the runtime, "" if the runtime makes an empty one or the process uses the host's.
	network string
	// endProxy ends the proxy of the process and waits for it; nil for none.
	endProxy func()
	// crun is set if the runtime is crun.
	crun bool
	// cgroup is the delegated cgroup, and owner the prefix of the names of this mica's cgroups.
	cgroup, owner string
	// list is the root filesystem's list of certificate authorities, while it has that of the process; "" for none.
	list string
	// clean removes the mount points that the runtime has made in the root filesystem; nil before attach.
	clean func()
	// remote is set if the streams are those of a user elsewhere, who has a terminal of this size.
	remote bool
	size   pty.Size
	// drain is how long output is awaited after the end of a process in a container; 0 for no limit.
	drain time.Duration
}

// newBundle makes the directory of a bundle, on a thread with namespaces of its own.
func (h *Host) newBundle(p *Process, dir string) (*bundle, error) {
	// The files of a run are in memory: making and removing them on a disk takes longer than some steps.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700"); err != nil {
		return nil, fmt.Errorf("prepare sandbox: mount %s: %w", dir, err)
	}
	return &bundle{
		dir: dir, rootfs: filepath.Join(dir, "rootfs"), p: p.withInit().withDevices(h.ids.Nested()), crun: h.isCrun(), host: h.ids,
		cgroup: h.cgroup, owner: h.owner,
	}, nil
}

// run prepares the bundle and runs it, on a thread with namespaces of its own.
func (h *Host) run(ctx context.Context, p *Process, dir string) (err error) {
	b, err := h.newBundle(p, dir)
	if err != nil {
		return err
	}
	defer b.unmount()
	if err := b.mount(); err != nil {
		return err
	}
	defer func() {
		b.detach()
		if err == nil {
			err = b.seal()
		}
	}()
	if err := h.ready(ctx, b); err != nil {
		return err
	}
	return h.start(ctx, b)
}

// ready makes what depends on the first process of a bundle.
func (h *Host) ready(ctx context.Context, b *bundle) (err error) {
	if err := b.prepare(); err != nil {
		return err
	}
	if err := b.trust(); err != nil {
		return err
	}
	b.clean = b.stubCleaner()
	if err := b.attach(); err != nil {
		return err
	}
	if err := b.attachTrust(); err != nil {
		return err
	}
	if b.env, err = account.WithHome(b.p.Env, b.root, b.ids.UID); err != nil {
		return err
	}
	if err := h.checkAccounts(b); err != nil {
		return err
	}
	return h.attachNetwork(ctx, b)
}

// start runs the prepared bundle.
func (h *Host) start(ctx context.Context, b *bundle) error {
	cmd, t, err := h.prepareRun(b)
	if err != nil {
		return err
	}
	if t != nil {
		defer t.Release()
	}
	return h.exec(ctx, b, t, cmd)
}

// console is the name of the socket in the bundle by which crun sends the terminal of the process.
const console = "console"

// prepareRun writes the configuration of the bundle, and returns the runtime's command for it and its terminal, nil for none.
func (h *Host) prepareRun(b *bundle, options ...string) (cmd *exec.Cmd, t *pty.Terminal, err error) {
	spec, err := b.spec()
	if err != nil {
		return nil, nil, err
	}
	args := append([]string{"run", "--bundle", b.dir}, options...)
	if b.p.TTY && h.isCrun() {
		args = append(args, "--console-socket", console)
	}
	cmd = h.command(b.dir, append(args, containerID)...)
	if b.p.TTY {
		if t, err = h.terminal(cmd, b, console); err != nil {
			return nil, nil, fmt.Errorf("prepare sandbox: %w", err)
		}
		if size := t.UserSize(); size != nil {
			spec.Process.ConsoleSize = &specs.Box{Height: uint(size.Row), Width: uint(size.Col)}
		}
	}
	if err = h.adaptSpec(spec); err == nil {
		err = b.write(spec)
	}
	if err != nil {
		if t != nil {
			t.Release()
		}
		return nil, nil, fmt.Errorf("prepare sandbox: %w", err)
	}
	return cmd, t, nil
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
