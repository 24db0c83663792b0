package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/chroot"
	"github.com/micabuild/mica/internal/containerinit"
	"github.com/micabuild/mica/internal/fakeroot"
	"github.com/micabuild/mica/internal/memory"
	"github.com/micabuild/mica/internal/network"
)

// initName is argv[0] of the init process: this program, started again.
const initName = "mica-init"

// mayRestart is set by Init: see mayRestart of package network.
var mayRestart bool

// Init runs the init process, a container's init or the process that makes networks, and does not return, if args name one of
// them. It is called first thing.
func Init(args []string) {
	mayRestart = true
	network.Init(args)
	chroot.Init(args)
	fakeroot.Init(args)
	switch {
	case len(args) == 1 && args[0] == initName:
		os.Exit(initMain())
	case len(args) > 2 && args[0] == containerinit.Path && args[1] == "--":
		os.Exit(containerinit.Main(args[2:]))
	}
}

// initProcess is process 1 of the pid namespace of all sandboxes, and holds their mount namespace. It ends when this process
// closes the pipe to it, which the kernel does for a process that is killed. With process 1, the kernel kills all other
// processes of the namespace.
type initProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer
	pid   *os.File // the namespaces
	mnt   *os.File
	ready func() error // waits until init has mounted /proc
}

func startInit() (*initProcess, error) {
	if !mayRestart {
		return nil, errors.New("start sandbox: this program does not call sandbox.Init")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{initName}
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start sandbox: make namespaces: %w", err)
	}
	i := &initProcess{cmd: cmd, stdin: stdin, ready: sync.OnceValue(func() error { return awaitInit(stdout) })}
	for name, ns := range map[string]**os.File{"pid": &i.pid, "mnt": &i.mnt} {
		if *ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/%s", cmd.Process.Pid, name)); err != nil {
			return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), i.stop())
		}
	}
	return i, nil
}

// awaitInit waits for the message of an init process that it is ready.
func awaitInit(stdout io.Reader) error {
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return fmt.Errorf("start sandbox: init process ended: %w", err)
	}
	if msg := strings.TrimSpace(line); msg != "ok" {
		return fmt.Errorf("start sandbox: %s", msg)
	}
	return nil
}

// leave ends the init process and does not wait for it and the processes of its namespace.
func (i *initProcess) leave() {
	i.end()
	go func() { _ = i.cmd.Wait() }()
}

func (i *initProcess) end() {
	for _, f := range []*os.File{i.pid, i.mnt} {
		if f != nil {
			_ = f.Close()
		}
	}
	_ = i.stdin.Close()
}

func (i *initProcess) stop() error {
	i.end()
	var exit *exec.ExitError
	if err := i.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("stop sandbox: %w", err)
	}
	return nil
}

// initMain is the init process: private mounts, a /proc of its own, and then nothing but reaping until stdin ends.
func initMain() int {
	// A terminal sends Ctrl-C to mica as well, which ends this process when it has to.
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go func() {
		for range children {
			for {
				if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Printf("make mounts private: %v\n", err)
		return 1
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		fmt.Printf("mount /proc: %v%s\n", err, explainProc(err))
		return 1
	}
	fmt.Println("ok")
	memory.DropProgram() // it may be there for a server's lifetime
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// explainProc explains the error of the mount of /proc. The kernel makes no second one where a part of the first is covered, as in containers
// (mount_too_revealing, fs/namespace.c).
func explainProc(err error) string {
	if !errors.Is(err, unix.EPERM) {
		return ""
	}
	return ": this container has a /proc of which parts are masked; in Kubernetes, set procMount: Unmasked"
}

// inNamespaces calls do on a thread with a copy of init's mount namespace, whose children are in init's pid namespace. The
// thread is not returned to the Go scheduler: it ends, and its mounts with it.
func inNamespaces(init *initProcess, do func() error) error {
	runtime.LockOSThread()
	// A thread that shares its working directory with others cannot change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter sandbox: %w", err)
	}
	if err := unix.Setns(int(init.pid.Fd()), unix.CLONE_NEWPID); err != nil {
		return fmt.Errorf("enter sandbox: pid namespace: %w", err)
	}
	if err := unix.Setns(int(init.mnt.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter sandbox: mount namespace: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter sandbox: %w", err)
	}
	return do()
}
