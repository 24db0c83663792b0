package fakeroot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/chroot"
	"github.com/micabuild/mica/internal/ociruntime"
)

// ordinaryUser is set for the tests, which run again as an ordinary user if root runs them.
const ordinaryUser = "MICA_TEST_FAKEROOT_USER"

func TestMain(m *testing.M) {
	chroot.Init(os.Args)
	Init(os.Args)
	if slices.Equal(os.Args, hostileArgs) {
		os.Exit(hostile())
	}
	if os.Getuid() == 0 && os.Getenv(ordinaryUser) == "" {
		os.Exit(runAsUser())
	}
	os.Exit(m.Run())
}

// runAsUser runs the tests as a user without privileges, in a directory of its own.
func runAsUser() int {
	const uid = 12345
	dir, err := os.MkdirTemp("", "fakeroot")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(dir+"/tmp", 0o700), os.Chown(dir+"/tmp", uid, uid)); err != nil {
		panic(err)
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	if out, err := exec.Command("cp", self, dir+"/test").CombinedOutput(); err != nil {
		panic(string(out))
	}
	wd, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool { return strings.HasPrefix(arg, "-test.testlogfile=") }) // the user cannot write it
	cmd := exec.Command(dir+"/test", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "TMPDIR="+dir+"/tmp", "HOME="+dir+"/tmp", ordinaryUser+"="+wd)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: []uint32{}}}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		panic(err)
	}
	return 0
}

var defaultCapabilities = []uint{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FSETID, unix.CAP_FOWNER, unix.CAP_MKNOD, unix.CAP_NET_RAW, unix.CAP_SETGID, unix.CAP_SETUID,
	unix.CAP_SETFCAP, unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT, unix.CAP_KILL, unix.CAP_AUDIT_WRITE,
}

// step is a directory that commands run in, with what is pretended of it.
type step struct {
	t     *testing.T
	dir   string
	table *Table
	uid   uint32
}

func newStep(t *testing.T) *step { return &step{t: t, dir: t.TempDir(), table: NewTable()} }

// try runs a command of a shell in the directory.
func (s *step) try(ctx context.Context, text string) (string, int) {
	s.t.Helper()
	var out bytes.Buffer
	err := Run(ctx, &chroot.Command{
		Args: []string{"sh", "-ec", text}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp"}, Cwd: s.dir, UID: s.uid, GID: s.uid, Groups: []uint32{s.uid},
		Capabilities: defaultCapabilities, Stdout: &out, Stderr: &out,
	}, s.table)
	var exit *ociruntime.ExitError
	switch {
	case errors.As(err, &exit):
		return out.String(), exit.Code
	case err != nil:
		s.t.Fatalf("%s: %v\n%s", text, err, out.String())
	}
	return out.String(), 0
}

// want runs a command and compares what it prints.
func (s *step) want(text, want string) {
	s.t.Helper()
	out, code := s.try(s.t.Context(), text)
	if code != 0 || strings.TrimSpace(out) != strings.TrimSpace(want) {
		s.t.Errorf("%s: exit code %d\n%s\nwant\n%s", text, code, out, want)
	}
}

func TestOwners(t *testing.T) {
	s := newStep(t)
	s.want(`id -u; id -g; touch a; stat -c '%u:%g %a' a; chown 33:44 a; chmod 4755 a; stat -c '%u:%g %a' a; chown 7 a; stat -c '%u:%g %a' a; cp -a a b; stat -c '%u:%g %a %n' a b`,
		"0\n0\n0:0 644\n33:44 4755\n7:44 755\n7:44 755 a\n7:44 755 b\n")
	var st unix.Stat_t
	at := filepath.Join(s.dir, "a")
	if err := unix.Lstat(at, &st); err != nil {
		t.Fatal(err)
	}
	if _, err := s.table.Pretend(at, &st); err != nil || st.Uid != 7 || st.Gid != 44 || st.Mode&0o7777 != 0o755 {
		t.Errorf("%v %d:%d %o", err, st.Uid, st.Gid, st.Mode)
	}
}

func TestTry(t *testing.T) {
	if err := Try(t.Context()); err != nil {
		t.Error(err)
	}
}

// What the kernel or a sysctl lacks is named.
func TestTryCauses(t *testing.T) {
	for code, want := range map[int]string{tryFailed: "exit code", tryNoMemory: "ptrace_scope", tryNoDescriptor: "Linux 5.14"} {
		if err := causeOf(&ociruntime.ExitError{Code: code}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", code, err)
		}
	}
	// Outside of a supervisor, the first call already fails.
	if code := tryCalls(); code != tryFailed {
		t.Errorf("without a supervisor: %d", code)
	}
}

func TestIDs(t *testing.T) {
	s := newStep(t)
	s.want(`setpriv --reuid 5 --regid 6 --groups 7,8 sh -c 'id -u; id -g; id -G; sh -c "id -u"; touch f; echo $?; setpriv --reuid 0 true || echo no' 2>/dev/null; id -u`, "5\n6\n6 7 8\n5\n1\nno\n0")
	s.want(`mkdir d; chown 5:6 d; setpriv --reuid 5 --regid 6 --clear-groups sh -c 'cd d; umask 027; echo x >f; mkdir g; ln -s f l; mkfifo p; mktemp -p . e.XXX >/dev/null; chmod 600 f; chown 5:5 f || echo no; touch ../f || echo no; rm -rf ../d/p || echo no' 2>/dev/null; rm d/e.*; stat -c '%n %u:%g %a %F' d d/*`, `
no
no
d 5:6 755 directory
d/f 5:6 600 regular file
d/g 5:6 750 directory
d/l 5:6 777 symbolic link`)
}

// Login programs set all limits, also the one that holds the ids.
func TestLimits(t *testing.T) {
	s := newStep(t)
	s.want(`setpriv --reuid 5 --regid 6 --clear-groups sh -c 'prlimit --rttime --raw --noheadings -o SOFT,HARD; prlimit --rttime=7:9 id -u; prlimit --rttime --pid $$ --raw --noheadings -o SOFT'; bash -c 'ulimit -R; ulimit -R 5; ulimit -R'`,
		"unlimited unlimited\n5\nunlimited\nunlimited\nunlimited")
}

func TestDevices(t *testing.T) {
	s := newStep(t)
	s.want(`mknod -m 640 c c 1 3; mknod b b 8 1; stat -c '%n %F %t:%T %a' c b; cp -a c d; stat -c '%n %F %t:%T %a' d; ! setpriv --reuid 5 mknod e c 1 3 2>/dev/null`, `
c character special file 1:3 640
b block special file 8:1 644
d character special file 1:3 640`)
}

func TestCapabilities(t *testing.T) {
	s := newStep(t)
	s.want(`cp /bin/true a; setcap cap_net_raw+ep a; getcap a; cp -a a b; getcap b; chown 3 a; getcap a; setcap -r b; getcap b; setcap cap_net_raw+ep b; echo >b; getcap b; ! setpriv --reuid 5 setcap cap_net_raw+ep a 2>/dev/null`,
		"a cap_net_raw=ep\nb cap_net_raw=ep")
}

func TestSetUID(t *testing.T) {
	s := newStep(t)
	s.want(`cp /usr/bin/id i; chown 3:4 i; chmod 6755 i; chmod 755 .; ./i -u; ./i -g; ./i -ru; setpriv --reuid 5 ./i -u; chown 0:0 i; chmod 4755 i; setpriv --reuid 5 ./i -u`, "3\n4\n0\n3\n0")
}

// A server changes the mode of its socket, and removes it from a directory that all may write to.
func TestSocket(t *testing.T) {
	s := newStep(t)
	s.want(`mkdir -m 1777 d; cd d; setpriv --reuid 5 --regid 5 --clear-groups perl -MSocket -e 'socket(S,AF_UNIX,SOCK_STREAM,0); bind(S,sockaddr_un("s")) or die $!; chmod(0750,"s") or die $!; chown(5,5,"s") or die $!; printf "%o\n", (stat("s"))[2]; unlink("s") or die $!'; ls`, "140750")
}

func TestInheritedGroup(t *testing.T) {
	s := newStep(t)
	s.want(`mkdir d; chgrp 50 d; chmod 2775 d; cd d; touch a; mkdir b; ln -s a c; touch b/e; stat -c '%n %u:%g %a' a b b/e c`, "a 0:50 644\nb 0:50 2755\nb/e 0:50 644\nc 0:50 777")
}

// The processes of a step signal those of the step alone.
func TestSignals(t *testing.T) {
	s := newStep(t)
	s.want(fmt.Sprintf(`sleep 1000 & kill -0 $!; kill -0 %d 2>/dev/null || echo no; kill -0 $PPID 2>/dev/null || echo no; kill -9 -1; wait $! 2>/dev/null || echo $?; sleep 1000 & kill $!; wait $! 2>/dev/null || echo $?`, os.Getpid()), "no\nno\n137\n143")
}

// The state of a file is written as the kernel writes it for 386.
func TestStat32(t *testing.T) {
	x := &unix.Statx_t{
		Dev_major: 1, Dev_minor: 2, Ino: 1<<32 | 3, Mode: 4, Nlink: 5, Uid: 6, Gid: 7, Rdev_minor: 8, Size: 9, Blksize: 10, Blocks: 11,
		Atime: unix.StatxTimestamp{Sec: 12, Nsec: 13}, Mtime: unix.StatxTimestamp{Sec: 14, Nsec: 15}, Ctime: unix.StatxTimestamp{Sec: 16, Nsec: 17},
	}
	for align, want := range map[int][]uint32{
		4: {0x102, 0, 0, 3, 4, 5, 6, 7, 8, 0, 0, 9, 0, 10, 11, 0, 12, 13, 14, 15, 16, 17, 3, 1},
		8: {0x102, 0, 0, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 0, 10, 0, 11, 0, 12, 13, 14, 15, 16, 17, 3, 1},
	} {
		var got []uint32
		for b := encodeStat32(align)(x); len(b) > 0; b = b[4:] {
			got = append(got, binary.LittleEndian.Uint32(b))
		}
		if !slices.Equal(got, want) {
			t.Errorf("alignment %d: %d", align, got)
		}
	}
}
