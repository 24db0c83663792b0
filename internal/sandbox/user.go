package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/user"
)

// ids are who a process runs as.
type ids struct {
	uid, gid uint32
	groups   []uint32
	home     string
}

// maxAccounts bounds what is read of an image's passwd and group files.
const maxAccounts = 10 << 20

// lookupUser resolves a user by the root filesystem's own passwd and group files, as Docker and BuildKit do.
func lookupUser(rootfs, name string, extra []string) (ids, error) {
	var id ids
	var uid, gid uint32
	if n, _ := fmt.Sscanf(name, "%d:%d", &uid, &gid); n == 2 && name == fmt.Sprintf("%d:%d", uid, gid) && len(extra) == 0 {
		return ids{uid: uid, gid: gid, home: homeOf(rootfs, int(uid))}, nil
	}
	who := name
	if who == "" {
		who = "0"
	}
	passwd, err := openAccounts(rootfs, "/etc/passwd")
	if err != nil {
		return id, err
	}
	defer closeAccounts(passwd)
	group, err := openAccounts(rootfs, "/etc/group")
	if err != nil {
		return id, err
	}
	defer closeAccounts(group)
	u, err := user.GetExecUser(who, nil, passwd, group)
	if err != nil {
		if name == "" {
			return ids{home: "/"}, nil
		}
		return id, err
	}
	id.uid, id.gid, id.home = uint32(u.Uid), uint32(u.Gid), cmp.Or(u.Home, "/")
	for _, g := range u.Sgids {
		id.groups = append(id.groups, uint32(g))
	}
	return id, id.addGroups(rootfs, extra)
}

// homeOf is the directory of a user, "/" for one without an entry. A runtime that looks it up reads /etc/passwd as it is in
// the container, without a limit: a link to /dev/zero there costs crun all memory.
func homeOf(rootfs string, uid int) string {
	passwd, err := openAccounts(rootfs, "/etc/passwd")
	if err != nil || passwd == nil {
		return "/"
	}
	defer closeAccounts(passwd)
	found, err := user.ParsePasswdFilter(passwd, func(u user.User) bool { return u.Uid == uid })
	if err != nil || len(found) == 0 || found[0].Home == "" {
		return "/"
	}
	return found[0].Home
}

// environ is the environment of the process, which always has HOME, as in Docker.
func (b *bundle) environ() []string {
	if slices.ContainsFunc(b.p.Env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) || b.ids.home == "" {
		return b.p.Env
	}
	return append(slices.Clone(b.p.Env), "HOME="+b.ids.home)
}

// supplementary are the groups of the process beside its primary one, which as in Docker and containerd is among them:
// what drops its primary group keeps its rights (CVE-2022-36109).
func (id *ids) supplementary() []uint32 {
	if slices.Contains(id.groups, id.gid) {
		return id.groups
	}
	return append([]uint32{id.gid}, id.groups...)
}

func (id *ids) addGroups(rootfs string, extra []string) error {
	if len(extra) == 0 {
		return nil
	}
	group, err := openAccounts(rootfs, "/etc/group")
	if err != nil {
		return err
	}
	defer closeAccounts(group)
	gids, err := user.GetAdditionalGroups(extra, group)
	if err != nil {
		return err
	}
	for _, g := range gids {
		id.groups = append(id.groups, uint32(g))
	}
	return nil
}

type limitedFile struct {
	io.Reader
	*os.File
}

func (f limitedFile) Read(p []byte) (int, error) { return f.Reader.Read(p) }

// openAccounts opens an account file inside the root filesystem; nil if there is none.
func openAccounts(rootfs, name string) (io.Reader, error) {
	path, err := securejoin.SecureJoin(rootfs, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil //nolint:nilnil // no file knows nobody
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, cause(err))
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", name, err), f.Close())
	}
	return limitedFile{io.LimitReader(f, maxAccounts), f}, nil
}

func closeAccounts(r io.Reader) {
	if f, ok := r.(limitedFile); ok {
		_ = f.Close()
	}
}

// makeCwd makes the working directory if it is missing, owned by the user, as BuildKit and Docker do.
func (b *bundle) makeCwd() error {
	if b.p.Cwd == "" {
		return nil
	}
	dir, err := securejoin.SecureJoin(b.rootfs, b.p.Cwd)
	if err != nil {
		return fmt.Errorf("working directory %s: %w", b.p.Cwd, err)
	}
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("working directory %s is not a directory", b.p.Cwd)
		}
		return nil
	}
	if b.p.ReadOnlyRoot || b.p.Root.Upper == "" {
		return nil // the runtime says so if it matters
	}
	err = user.MkdirAllAndChown(dir, 0o755, int(b.ids.uid), int(b.ids.gid))
	if err != nil {
		return fmt.Errorf("make working directory %s: %w", b.p.Cwd, cause(err))
	}
	return nil
}

// writeNetworkFiles writes what is mounted on /etc/hosts and /etc/resolv.conf. A process shares the host's network or has
// none: the host's resolvers are its own.
func (b *bundle) writeNetworkFiles() error {
	var hosts strings.Builder
	name := b.hostname()
	fmt.Fprintf(&hosts, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", name)
	for _, h := range b.p.ExtraHosts {
		fmt.Fprintf(&hosts, "%s\t%s\n", h.IP, h.Host)
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for file, data := range map[string]string{"hosts": hosts.String(), "resolv.conf": string(resolv)} {
		path := filepath.Join(b.dir, file)
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// defaultHostname is BuildKit's.
const defaultHostname = "buildkitsandbox"

func (b *bundle) hostname() string {
	if b.p.Hostname != "" {
		return b.p.Hostname
	}
	return defaultHostname
}
