package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/certs"
	"github.com/micabuild/mica/internal/inroot"
)

// The lines around the proxy's authority in a list of authorities: BuildKit's, for which its clients look.
const (
	trustBegin = "\n# buildkit proxy CA begin\n"
	trustEnd   = "# buildkit proxy CA end\n"
)

// trusted is what the list of authorities gets.
func (b *bundle) trusted() []byte {
	return slices.Concat([]byte(trustBegin), b.p.Authority, []byte(trustEnd))
}

// trust adds the authority of the process to the root filesystem's list of authorities, the first that it has. The process may replace the
// list, as package managers do: it is a file as before, and not a mount.
func (b *bundle) trust() error {
	if len(b.p.Authority) == 0 {
		return nil
	}
	root, err := inroot.OpenDir(b.rootfs)
	if err != nil {
		return fmt.Errorf("trust the proxy: %w", err)
	}
	defer func() { _ = unix.Close(root) }()
	for _, name := range certs.Files() {
		f, err := inroot.OpenRegular(root, name)
		if err != nil {
			continue
		}
		data, err := readList(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("trust the proxy: %s: %w", name, err)
		}
		b.list = name
		data = append(data, b.trusted()...)
		if b.p.Root.Upper == "" {
			err = os.WriteFile(b.listCopy(), data, 0o644)
		} else {
			err = rewriteList(root, name, func([]byte) []byte { return data })
		}
		if err != nil {
			return fmt.Errorf("trust the proxy: %s: %w", name, err)
		}
		return nil
	}
	return nil
}

// listCopy is the list of a root filesystem that is read-only.
func (b *bundle) listCopy() string { return filepath.Join(b.dir, "authorities") }

// attachTrust mounts the list in a root filesystem that is read-only.
func (b *bundle) attachTrust() error {
	if b.list == "" || b.p.Root.Upper != "" {
		return nil
	}
	root, err := inroot.OpenDir(b.root)
	if err != nil {
		return fmt.Errorf("trust the proxy: %w", err)
	}
	defer func() { _ = unix.Close(root) }()
	at, err := inroot.Open(root, b.list)
	if errors.Is(err, unix.ENOENT) {
		return nil // a mount covers it
	}
	if err != nil {
		return fmt.Errorf("trust the proxy: %w", err)
	}
	defer func() { _ = unix.Close(at) }()
	if err := moveTo(b.listCopy(), at, unix.MOUNT_ATTR_RDONLY); err != nil {
		return fmt.Errorf("trust the proxy: %w", err)
	}
	return nil
}

// distrust removes the authority from the list, which is as it was if the process has not changed it. It runs after the process.
func (b *bundle) distrust() {
	if b.list == "" || b.p.Root.Upper == "" {
		return
	}
	root, err := inroot.OpenDir(b.rootfs)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(root) }()
	// The process may have removed or replaced the file: then there is nothing to remove.
	_ = rewriteList(root, b.list, func(data []byte) []byte { return bytes.Replace(data, b.trusted(), nil, 1) })
}

// readList reads a list of authorities.
func readList(f *os.File) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, certs.MaxFile+1))
	if err == nil && len(data) > certs.MaxFile {
		err = fmt.Errorf("it has more than %d bytes", certs.MaxFile)
	}
	return data, err
}

// rewriteList changes a list in its place. It keeps its times: a list that is as before is no change of the layer.
func rewriteList(root int, name string, change func([]byte) []byte) error {
	f, err := inroot.OpenWritable(root, name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	data, err := readList(f)
	if err != nil {
		return err
	}
	changed := change(data)
	if bytes.Equal(changed, data) {
		return nil
	}
	if _, err := f.WriteAt(changed, 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(changed))); err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(f.Fd()), "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}
