package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// ids are the user and groups of a process.
type ids struct {
	uid, gid uint32
	groups   []uint32
}

const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// maxAccounts bounds what is read of an image's passwd and group files.
const maxAccounts = 10 << 20

// errOddAccounts is returned for an account file that may have no end.
var errOddAccounts = errors.New("it is not a regular file")

// lookupUser resolves a user by the root filesystem's own passwd and group files, as Docker and BuildKit do.
func lookupUser(rootfs, name string, extra []string) (ids, error) {
	var id ids
	var uid, gid uint32
	if n, _ := fmt.Sscanf(name, "%d:%d", &uid, &gid); n == 2 && name == fmt.Sprintf("%d:%d", uid, gid) && len(extra) == 0 {
		return ids{uid: uid, gid: gid}, nil
	}
	root, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
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
	id.uid, id.gid = uint32(u.Uid), uint32(u.Gid)
	for _, g := range u.Sgids {
		id.groups = append(id.groups, uint32(g))
	}
	return id, id.addGroups(root, extra)
}

// isNumeric reports whether a user is known without the account files.
func isNumeric(who string) bool {
	return !strings.ContainsFunc(who, func(r rune) bool { return r != ':' && (r < '0' || r > '9') })
}

// supplementary returns the supplementary groups of the process. They include its primary group, as in Docker and containerd: a
// process that drops its primary group keeps the group's rights (CVE-2022-36109).
func (id *ids) supplementary() []uint32 {
	if slices.Contains(id.groups, id.gid) {
		return id.groups
	}
	return append([]uint32{id.gid}, id.groups...)
}

func (id *ids) addGroups(root int, extra []string) error {
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
		id.groups = append(id.groups, uint32(g))
	}
	return nil
}

// accounts is an open account file. A nil one is a missing file, which has no entries.
type accounts struct{ file *os.File }

// openAccounts opens an account file inside a root directory. It opens regular files only: an image may have a device, a pipe
// or a link to one instead.
func openAccounts(root int, name string) (*accounts, error) {
	f, err := openRegularIn(root, name)
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

// openRegularIn opens a regular file inside the directory root for reading.
func openRegularIn(root int, name string) (*os.File, error) {
	at, err := openIn(root, name)
	if err != nil {
		return nil, err
	}
	var before, after unix.Stat_t
	err = unix.Fstat(at, &before)
	_ = unix.Close(at)
	if err == nil && before.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errOddAccounts
	}
	if err != nil {
		return nil, err
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(root, name, &how)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	err = unix.Fstat(fd, &after)
	if err == nil && (after.Dev != before.Dev || after.Ino != before.Ino) {
		err = errOddAccounts
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// setHome sets HOME if the environment has none, as runtimes do: to the directory of the user in the passwd file that the
// process will see, else to the root. A runtime would read a passwd file of any size.
func (b *bundle) setHome() error {
	for _, kv := range b.p.Env {
		if v, ok := strings.CutPrefix(kv, "HOME="); ok && v != "" {
			return nil
		}
	}
	root, err := unix.Open(b.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("read %s: %w", passwdFile, err)
	}
	defer func() { _ = unix.Close(root) }()
	env := slices.DeleteFunc(slices.Clone(b.p.Env), func(kv string) bool { return strings.HasPrefix(kv, "HOME=") })
	env = append(env, "HOME="+homeOf(root, b.ids.uid))
	b.env = env
	return nil
}

// homeOf returns the home directory of a user by the passwd file inside the directory root.
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

// checkAccounts rejects account files that runc must not read. runc looks up the ids in the files that the process will see,
// though it gets them as numbers. It reads devices and pipes too, and before 1.3 keeps a line of any length in memory.
func (h *Host) checkAccounts(b *bundle) error {
	if h.isCrun() {
		return nil
	}
	root, err := unix.Open(b.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("read %s: %w", passwdFile, err)
	}
	defer func() { _ = unix.Close(root) }()
	for _, name := range []string{passwdFile, groupFile} {
		if err := b.checkAccountFile(root, name); err != nil {
			return fmt.Errorf("%s: %w: %s would read all of it; use crun, or mount a file on it", name, err, filepath.Base(h.runtime))
		}
	}
	return nil
}

func (b *bundle) checkAccountFile(root int, name string) error {
	full, err := securejoin.SecureJoin(b.root, name)
	if err != nil {
		return err
	}
	for _, kernels := range []string{"/proc/", "/dev/", "/sys/"} {
		if strings.HasPrefix(full, b.root+kernels) {
			return errOddAccounts
		}
	}
	f, err := openRegularIn(root, name)
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
