package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/account"
	"github.com/micabuild/mica/internal/chroot"
	"github.com/micabuild/mica/internal/rootfs"
	"github.com/micabuild/mica/internal/runtimespec"
	"github.com/micabuild/mica/internal/userns"
)

// Why a host that uses chroot or fakeroot cannot do what needs namespaces.
var (
	errPlain   = errors.New("isolation by chroot or fakeroot runs the steps of builds alone, without terminals: --isolation oci has containers")
	errNetwork = errors.New("isolation by chroot or fakeroot has no network for steps")
)

// UseChroot makes the host run processes by chroot, in root filesystems that are plain files (Process.Plain).
func (h *Host) UseChroot() { h.plain = true }

// Plain reports whether processes need Process.Plain.
func (h *Host) Plain() bool { return h != nil && h.plain }

// runPlain runs a process by chroot. What mounts would show is moved or copied into the root filesystem, and taken back.
func (h *Host) runPlain(ctx context.Context, p *Process) (err error) {
	if err := p.checkPlain(); err != nil {
		return err
	}
	if p.NetworkMade != nil && p.Network == NetworkOwn {
		if err := p.NetworkMade(nil, errNetwork); err != nil {
			return err
		}
	}
	tmp, err := h.PlainTemp("run")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tmp.Remove()) }()
	b := &bundle{dir: tmp.Path, rootfs: p.Plain.Path(), root: p.Plain.Path(), p: p, host: h.ids}
	if b.ids, err = account.Lookup(b.rootfs, p.User, p.Groups); err != nil {
		return err
	}
	if err := b.makeCwd(); err != nil {
		return err
	}
	if err := errors.Join(b.makeNetworkFiles(), b.writeNetworkFiles()); err != nil {
		return err
	}
	leave, err := b.enter(ctx, h.podRoot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	return b.runCovered(ctx, h.owners)
}

// runCovered runs the process with what mounts would show.
func (b *bundle) runCovered(ctx context.Context, owners *rootfs.Owners) (err error) {
	cover, err := rootfs.NewCover(b.root, filepath.Join(b.dir, "covered"))
	if err != nil {
		return err
	}
	cover.Linked = b.use != nil
	defer func() { err = errors.Join(err, cover.Uncover()) }()
	defer b.closeListeners()
	if err := b.cover(cover); err != nil {
		return err
	}
	if b.env, err = account.WithHome(b.p.Env, b.root, b.ids.UID); err != nil {
		return err
	}
	cmd, err := b.chrootCommand()
	if err != nil {
		return err
	}
	if b.use != nil {
		return b.runPretended(ctx, cmd, owners)
	}
	return chroot.Run(ctx, cmd)
}

// checkPlain refuses what chroot cannot do.
func (p *Process) checkPlain() error {
	switch {
	case p.Plain == nil, p.TTY, p.Init:
		return errPlain
	case p.Network == NetworkNone:
		return errors.New("without namespaces a step cannot be kept from the network: leave out --network=none, or use --isolation oci")
	case p.Network == NetworkProxy:
		return errors.New("without namespaces a step cannot be kept from the network: leave out --proxy-network, or use --isolation oci")
	case p.Privileged:
		return errors.New("without namespaces a step cannot be privileged: leave out --security=insecure, or use --isolation oci")
	case p.Resources != nil:
		return errors.New("without namespaces resources cannot be limited: limit those of the pod, or use --isolation oci")
	case len(p.Devices) > 0:
		return errors.New("without namespaces devices cannot be given to a step")
	}
	return nil
}

func (b *bundle) closeListeners() {
	for _, l := range b.listeners {
		_ = l.Close()
	}
}

// cover puts in place what a container would have mounted, in the order of attachAll.
func (b *bundle) cover(c *rootfs.Cover) error {
	for _, dir := range kernels {
		if err := b.coverKernel(c, dir); err != nil {
			return fmt.Errorf("prepare %s: %w", dir, cause(err))
		}
	}
	for _, name := range b.networkFiles() {
		if err := b.coverNetworkFile(c, name); err != nil {
			return fmt.Errorf("prepare /etc/%s: %w", name, cause(err))
		}
	}
	for i, m := range b.p.Mounts {
		if b.stays(m.Target) {
			return fmt.Errorf("mount %s: the pod has a mount there or below: use another target", m.Target)
		}
		if err := b.coverMount(c, filepath.Join(b.dir, fmt.Sprintf("mount%d", i)), m); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, cause(err))
		}
	}
	return nil
}

// coverMount puts a mount in place, for which source is a path of its own.
func (b *bundle) coverMount(c *rootfs.Cover, source string, m Mount) error {
	switch m.Type {
	case MountPlain:
		return c.Move(m.Source, m.Target)
	case MountTmpfs:
		return b.coverTmpfs(c, source, m)
	case MountSecret:
		if err := os.WriteFile(source, m.Data, 0o600); err != nil {
			return err
		}
		if err := b.ownPlain(source, m); err != nil {
			return err
		}
	case MountSocket:
		if err := b.listen(source, m); err != nil {
			return err
		}
	case MountBind:
		if m.Shared {
			return b.moveShared(c, m)
		}
		if err := os.CopyFS(source, os.DirFS(m.Source)); err != nil {
			return err
		}
	default:
		return errPlain
	}
	return c.Show(source, m.Target)
}

// coverTmpfs shows an empty directory of root, with the mode of the one that it covers, as mountTmpfs does.
func (b *bundle) coverTmpfs(c *rootfs.Cover, source string, m Mount) error {
	covered, err := securejoin.SecureJoin(b.root, m.Target)
	if err != nil {
		return err
	}
	mode := uint32(0o755)
	var st unix.Stat_t
	if err := unix.Lstat(covered, &st); err == nil {
		if mode, err = b.plainMode(covered, &st); err != nil {
			return err
		}
	}
	if err := b.makePlainDirectory(source, mode); err != nil {
		return err
	}
	return c.Show(source, m.Target)
}

// moveShared moves a cache, which the step has alone, into the root filesystem, or the directory in it that the mount selects. What earlier
// steps have left in the cache does not lead out of it.
func (b *bundle) moveShared(c *rootfs.Cover, m Mount) error {
	source, err := securejoin.SecureJoin(m.Source, m.Selector)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(source, &st); err != nil {
		return &fs.PathError{Op: "open", Path: m.Selector, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &fs.PathError{Op: "open", Path: m.Selector, Err: unix.ENOTDIR}
	}
	return c.Move(source, m.Target)
}

// listen listens at a path, which may be longer than the address of a socket.
func (b *bundle) listen(source string, m Mount) error {
	dir, err := os.Open(filepath.Dir(source))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(source)))
	if err != nil {
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) //nolint:forcetypeassert // it is one
	b.listeners = append(b.listeners, l)
	if err := b.ownPlain(source, m); err != nil {
		return err
	}
	go serve(l, m.Serve)
	return nil
}

// devices are those that every container has.
var devices = []struct {
	name  string
	major uint32
	minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

// makeDevices makes what can be made of a /dev without mounts.
func makeDevices(dir string) error {
	for _, d := range devices {
		at := filepath.Join(dir, d.name)
		if err := unix.Mknod(at, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return &fs.PathError{Op: "mknod", Path: "/dev/" + d.name, Err: err}
		}
		if err := os.Chmod(at, 0o666); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"shm", "mqueue"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(dir, name), 0o777|os.ModeSticky); err != nil {
			return err
		}
	}
	return os.Mkdir(filepath.Join(dir, "pts"), 0o755)
}

// chrootCommand describes the process for chroot, or for a pretended root. It gets the capabilities that it has in a container. By chroot it is
// without CAP_SYS_CHROOT, by which it would leave its root directory, and root of a host, whose devices no cgroup hides, makes none.
func (b *bundle) chrootCommand() (*chroot.Command, error) {
	o := runtimespec.Options{Settings: b.p.Settings, HostNetwork: true}
	names, err := o.ProcessCapabilities()
	if err != nil {
		return nil, err
	}
	cmd := &chroot.Command{
		Root: b.root, Args: b.p.Args, Env: b.env, Cwd: b.cwd(), UID: b.ids.UID, GID: b.ids.GID, Groups: b.ids.Supplementary(),
		Stdin: b.p.Stdin, Stdout: b.p.Stdout, Stderr: b.p.Stderr,
	}
	cmd.Capabilities = names
	if b.use == nil {
		cmd.Capabilities = slices.DeleteFunc(names, func(n uint) bool {
			host := n == unix.CAP_MKNOD && userns.Has(unix.CAP_SYS_ADMIN)
			return n == unix.CAP_SYS_CHROOT || host || !userns.Has(n)
		})
	}
	for _, l := range b.p.Rlimits {
		resource, ok := runtimespec.Resource(l.Name)
		if !ok {
			return nil, fmt.Errorf("invalid ulimit %q", l.Name)
		}
		cmd.Limits = append(cmd.Limits, chroot.Limit{Resource: resource, Soft: uint64(l.Soft), Hard: uint64(l.Hard)})
	}
	return cmd, nil
}
