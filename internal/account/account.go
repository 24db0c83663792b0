// Package account finds users and groups by the passwd and group files of an image, which is not trusted: the files may have any
// size, and be links, devices or pipes.
package account

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/inroot"
)

// IDs are the user and groups of a process.
type IDs struct {
	UID, GID uint32
	Groups   []uint32 // supplementary, of the user
}

const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// maxAccounts bounds what is read of an image's passwd and group files.
const maxAccounts = 10 << 20

// Lookup resolves a user ("", name, uid, name:group, uid:gid) and additional groups by the files in a root filesystem, as Docker
// and BuildKit do.
func Lookup(rootfs, name string, groups []string) (IDs, error) {
	var id IDs
	var uid, gid uint32
	if n, _ := fmt.Sscanf(name, "%d:%d", &uid, &gid); n == 2 && name == fmt.Sprintf("%d:%d", uid, gid) && len(groups) == 0 {
		return IDs{UID: uid, GID: gid}, nil
	}
	root, err := inroot.OpenDir(rootfs)
	if err != nil {
		return id, fmt.Errorf("read %s: %w", passwdFile, err)
	}
	defer func() { _ = unix.Close(root) }()
	who := name
	if who == "" {
		who = "0"
	}
	passwd, err := openAccounts(root, passwdFile)
	if err != nil && !isNumeric(who) {
		return id, err
	}
	defer passwd.close()
	group, err := openAccounts(root, groupFile)
	if err != nil && !isNumeric(who) {
		return id, err
	}
	defer group.close()
	u, err := user.GetExecUser(who, nil, passwd.reader(), group.reader())
	if err != nil {
		if name == "" {
			return id, nil
		}
		return id, err
	}
	id.UID, id.GID = uint32(u.Uid), uint32(u.Gid)
	for _, g := range u.Sgids {
		id.Groups = append(id.Groups, uint32(g))
	}
	return id, id.addGroups(root, groups)
}

// isNumeric reports whether a user is known without the account files.
func isNumeric(who string) bool {
	return !strings.ContainsFunc(who, func(r rune) bool { return r != ':' && (r < '0' || r > '9') })
}

// Supplementary returns the supplementary groups of the process. They include its primary group, as in Docker and containerd: a
// process that drops its primary group keeps the group's rights (CVE-2022-36109).
func (id *IDs) Supplementary() []uint32 {
	if slices.Contains(id.Groups, id.GID) {
		return id.Groups
	}
	return append([]uint32{id.GID}, id.Groups...)
}

func (id *IDs) addGroups(root int, extra []string) error {
	if len(extra) == 0 {
		return nil
	}
	if slices.Contains(extra, "") {
		return errors.New("unable to find group \"\": no matching entries in group file")
	}
	group, err := openAccounts(root, groupFile)
	if err != nil {
		return err
	}
	defer group.close()
	gids, err := user.GetAdditionalGroups(extra, group.reader())
	if err != nil {
		return err
	}
	slices.Sort(gids) // their order is that of a map
	for _, g := range gids {
		id.Groups = append(id.Groups, uint32(g))
	}
	return nil
}

// accounts is an open account file. A nil one is a missing file, which has no entries.
type accounts struct{ file *os.File }

// openAccounts opens an account file inside a root directory. It opens regular files only: an image may have a device, a pipe
// or a link to one instead.
func openAccounts(root int, name string) (*accounts, error) {
	f, err := inroot.OpenRegular(root, name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil //nolint:nilnil // a missing file has no entries
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return &accounts{f}, nil
}

// reader returns nil if there is no file. It reads maxAccounts bytes at most.
func (a *accounts) reader() io.Reader {
	if a == nil {
		return nil
	}
	return io.LimitReader(a.file, maxAccounts)
}

func (a *accounts) close() {
	if a != nil {
		_ = a.file.Close()
	}
}

// WithHome returns an environment with HOME, as runtimes do: it adds the home directory of a user in a root filesystem, unless
// the environment has one. A runtime would read a passwd file of any size.
func WithHome(env []string, rootfs string, uid uint32) ([]string, error) {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "HOME="); ok && v != "" {
			return env, nil
		}
	}
	root, err := inroot.OpenDir(rootfs)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", passwdFile, err)
	}
	defer func() { _ = unix.Close(root) }()
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return strings.HasPrefix(kv, "HOME=") })
	return append(env, "HOME="+homeOf(root, uid)), nil
}

// homeOf returns the home directory of a user by the passwd file inside the directory root, "/" for an unknown user.
func homeOf(root int, uid uint32) string {
	const none = "/"
	passwd, err := openAccounts(root, passwdFile)
	if err != nil {
		return none
	}
	defer passwd.close()
	u, err := user.GetExecUser(strconv.FormatUint(uint64(uid), 10), &user.ExecUser{Home: none}, passwd.reader(), nil)
	if err != nil || u.Home == "" {
		return none
	}
	return u.Home
}

// Check returns an error for account files that a program which reads all of them must not read: others than regular files,
// large ones, and those in /proc, /dev and /sys.
func Check(rootfs string) error {
	root, err := inroot.OpenDir(rootfs)
	if err != nil {
		return fmt.Errorf("read %s: %w", passwdFile, err)
	}
	defer func() { _ = unix.Close(root) }()
	for _, name := range []string{passwdFile, groupFile} {
		if err := checkFile(rootfs, root, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func checkFile(rootfs string, root int, name string) error {
	full, err := securejoin.SecureJoin(rootfs, name)
	if err != nil {
		return err
	}
	for _, kernels := range []string{"/proc/", "/dev/", "/sys/"} {
		if strings.HasPrefix(full, rootfs+kernels) {
			return inroot.ErrNotRegular
		}
	}
	f, err := inroot.OpenRegular(root, name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err == nil && info.Size() > maxAccounts {
		err = fmt.Errorf("it is larger than %d MiB", maxAccounts>>20)
	}
	return err
}

// MayExecute reports whether a file's mode lets a user execute it. root may if anyone may.
func (id *IDs) MayExecute(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	bit := os.FileMode(0o001)
	switch {
	case !ok, id.UID == 0:
		bit = 0o111
	case st.Uid == id.UID:
		bit = 0o100
	case st.Gid == id.GID, slices.Contains(id.Supplementary(), st.Gid):
		bit = 0o010
	}
	return info.Mode()&bit != 0
}
