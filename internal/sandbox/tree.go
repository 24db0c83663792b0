package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/inroot"
)

// Tree is the root filesystem of a container with its volumes, binds and unions and, once the first process has been started, its network
// files: what docker cp reads and writes. A tmpfs belongs to processes alone, and so do the filesystems of the kernel.
//
// A tree has a mount namespace and a thread of its own: it is whole until it is closed, also when the container ends.
type Tree struct {
	root   *os.File
	mounts []Mounted
	close  chan struct{}
	ended  chan struct{}
}

// Mounted is a mount in a tree.
type Mounted struct {
	Path     string // after symlinks
	ReadOnly bool
}

// Tree makes the tree of the container. It resolves the targets of mounts again, and makes them if processes have removed them.
func (c *Container) Tree() (*Tree, error) {
	var b bundle
	var ns *os.File
	err := c.do(func() (err error) {
		b = *c.b
		ns, err = threadNamespace()
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	t := &Tree{close: make(chan struct{}), ended: make(chan struct{})}
	made := make(chan error, 1)
	go t.live(ns, &b, made)
	if err := <-made; err != nil {
		<-t.ended
		return nil, fmt.Errorf("open the files of the container: %w", err)
	}
	return t, nil
}

// threadNamespace opens the mount namespace of this thread.
func threadNamespace() (ns *os.File, err error) {
	name := fmt.Sprintf("/proc/self/task/%d/ns/mnt", unix.Gettid())
	elsewhere(func() { ns, err = os.Open(name) })
	return ns, err
}

// elsewhere calls f on another thread, and waits for it: in the namespaces of this one, /proc is not that of this process.
func elsewhere(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// Root is the root directory (O_PATH) of the tree. Processes change it meanwhile: see package inroot.
func (t *Tree) Root() *os.File { return t.root }

// Mounts are the mounts of the tree, in the order in which they were mounted.
func (t *Tree) Mounts() []Mounted { return t.mounts }

// Close unmounts the tree.
func (t *Tree) Close() {
	close(t.close)
	<-t.ended
}

// live is the tree from its beginning to its end, on a thread that ends with it.
func (t *Tree) live(ns *os.File, b *bundle, made chan<- error) {
	defer close(t.ended)
	runtime.LockOSThread()
	err := enterCopy(ns)
	if err == nil {
		defer func() {
			_ = t.root.Close()                       // a nil file can be closed
			_ = unix.Unmount(b.dir, unix.MNT_DETACH) // before the thread ends: the next start mounts the same directories
		}()
		err = crash.Guard(func() error { return t.attach(b) })()
	}
	made <- err
	if err == nil {
		<-t.close
	}
}

// enterCopy moves the thread into a copy of a mount namespace.
func enterCopy(ns *os.File) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return err
	}
	return unix.Unshare(unix.CLONE_NEWNS)
}

// attach mounts what the tree has.
func (t *Tree) attach(b *bundle) error {
	at := filepath.Join(b.dir, "files") // of all trees of the container
	if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	top, err := inroot.OpenDir(b.rootfs)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(top) }()
	if err := bindAt(top, at, 0, 0); err != nil {
		return err
	}
	root, err := inroot.OpenDir(at)
	if err != nil {
		return err
	}
	t.root = os.NewFile(uintptr(root), "/")
	for i, m := range b.p.Mounts {
		if m.Type != MountBind && m.Type != MountUnion {
			continue
		}
		if err := t.attachMount(b.sources[i], m); err != nil {
			return fmt.Errorf("mount target %s: %w", path.Clean("/"+m.Target), cause(err))
		}
	}
	if b.root != "" {
		if err := b.attachNetworkFiles(root); err != nil {
			return err
		}
	}
	if !b.p.ReadOnlyRoot {
		return nil
	}
	return unix.MountSetattr(root, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

func (t *Tree) attachMount(source string, m Mount) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	root := int(t.root.Fd())
	at, err := inroot.Make(root, m.Target, info.IsDir())
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }()
	var name string
	elsewhere(func() { name, err = inroot.Path(root, at) })
	if err != nil {
		return err
	}
	t.mounts = append(t.mounts, Mounted{name, m.ReadOnly})
	return moveTo(source, at, 0)
}
