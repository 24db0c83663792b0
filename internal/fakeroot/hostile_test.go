package fakeroot

import (
	"bytes"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/chroot"
	"github.com/micabuild/mica/internal/seccomp"
)

// hostileArgs run hostile.
var hostileArgs = []string{program, "hostile"}

// A step makes each call with arguments that no program passes. The supervisor answers all.
func TestHostile(t *testing.T) {
	s := newStep(t)
	var out bytes.Buffer
	if err := Run(t.Context(), &chroot.Command{Args: hostileArgs, Env: []string{}, Cwd: s.dir, Capabilities: defaultCapabilities, Stdout: &out, Stderr: &out}, s.table); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	s.want("id -u", "0")
}

func hostile() int {
	long, page := bytes.Repeat([]byte("a"), 2*maxPath), bytes.Repeat([]byte{0xff}, maxPath)
	// The end of what can be read.
	edge, err := unix.Mmap(-1, 0, 2*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil || unix.Mprotect(edge[os.Getpagesize():], unix.PROT_NONE) != nil {
		return 2
	}
	edge[os.Getpagesize()-1] = 'x'
	at := func(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }
	names := []string{".", "..", "/", "", "x", "x/", "//x", "/proc/self/fd/0", "/proc/self/cwd/x", "/dev/fd/99999999999", "/proc/self/fd/-1", "security.capability", "system.posix_acl_access"}
	values := []uintptr{0, 1, 2, 3, 20, 24, 1 << 16, 1<<31 - 1, ^uintptr(0), ^uintptr(99), 1 << 47, at(long), at(page), at(edge), at(edge) + uintptr(os.Getpagesize()) - 1}
	for i, name := range names {
		names[i] = name + "\x00"
		values = append(values, uintptr(unsafe.Pointer(unsafe.StringData(names[i]))))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range handlers() {
			if !yield(name) {
				return
			}
		}
	}) {
		n, ok := seccomp.ABIs()[0].Number(name)
		if !ok || slices.Contains([]string{"kill", "tkill", "tgkill", "ptrace", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "execve", "execveat"}, name) {
			continue
		}
		for range 150 {
			var a [6]uintptr
			for i := range a {
				a[i] = values[random.IntN(len(values))]
			}
			_, _, _ = unix.Syscall6(uintptr(n), a[0], a[1], a[2], a[3], a[4], a[5])
		}
	}
	runtime.KeepAlive(names)
	return 0
}

// Processes that run at the same time do not see each other's ids.
func TestParallel(t *testing.T) {
	s := newStep(t)
	s.want(`for u in 1 2 3 4 5 6 7; do (u=$u setpriv --reuid 0 --regid $u --clear-groups sh -ec '
for i in 1 2 3 4 5; do
	mkdir $u.$i; echo >$u.$i/f; chown $u $u.$i/f; chmod 46$i$u $u.$i/f
	stat -c "%n %u:%g:%a" $u.$i/f $u.$i
done' >$u.out; for i in 1 2 3 4 5; do echo "$u.$i/f $u:$u:46$i$u"; echo "$u.$i 0:$u:755"; done | cmp - $u.out) & done; wait; ls -d *.[0-9] | wc -l`, "35")
}
