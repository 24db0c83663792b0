// Package chroot runs a process in a root filesystem by chroot(2), where there can be no namespaces, and ends all that it has started.
//
// Two processes of this program come before the command. The supervisor adopts what the command leaves (PR_SET_CHILD_SUBREAPER) and kills it when
// the command has ended, or when the process that has started the supervisor has. The second enters the root directory, gives up what a step
// must not have, and executes the command.
//
// Where chroot(2) is not allowed either, a command runs as this process may (Own), perhaps under a seccomp filter that has a supervisor.
package chroot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/userns"
)

// Command is a process to run.
type Command struct {
	Root         string // the directory of the root filesystem
	Args, Env    []string
	Cwd          string
	UID, GID     uint32
	Groups       []uint32
	Capabilities []uint // that root may have, those of them that this process has
	Limits       []Limit
	// Own: the process has the root directory, ids and capabilities of this one, whatever the fields above say.
	Own bool
	// Filter is a seccomp filter, an array of struct sock_filter, for the command; empty for nothing.
	Filter []byte
	// Listener is a socket that gets the descriptor of the filter's listener (seccomp_unotify(2)). Run closes it.
	Listener *os.File `json:"-"`

	// Held is a file that stays open until no process of the command runs; nil for none.
	Held           *os.File  `json:"-"`
	Stdin          io.Reader `json:"-"`
	Stdout, Stderr io.Writer `json:"-"`
}

// Limit is a limit of setrlimit(2).
type Limit struct {
	Resource   int
	Soft, Hard uint64
}

// needed are the capabilities without which no step would run as it does elsewhere.
var needed = []uint{unix.CAP_SYS_CHROOT, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_KILL}

// Try returns the reason why this process cannot run commands, nil if it can.
func Try() error {
	if os.Geteuid() != 0 || !userns.Has(needed...) {
		return errors.New("chroot needs root with the capabilities that containers have by default")
	}
	if userns.Current().Nested() {
		return errors.New("chroot needs devices, which cannot be made in a user namespace (in Kubernetes, hostUsers: false)")
	}
	if err := unix.Chroot("/"); err != nil { // changes nothing
		return fmt.Errorf("chroot: %w", err)
	}
	return nil
}

// The descriptors of both processes, beside the usual ones.
const (
	controlFD  = 3 // the command comes from it; that it ends means that all must
	statusFD   = 4 // the result goes to it
	listenerFD = 5 // the listener of a filter goes to it, if there is a filter
	heldFD     = 6 // of the supervisor, if there is one
)

// result is how a command has ended.
type result struct {
	Ended  bool
	Code   int
	Reason string // why it could not start
}

// Run runs the command. It returns an [ociruntime.ExitError] for one that fails and an [ociruntime.StartError] for one that cannot be started. When
// it returns, no process of the command runs. The program must call Init.
func Run(ctx context.Context, c *Command) error {
	control, status, cmd, err := start(c)
	if err != nil {
		return fmt.Errorf("start process: %w", err)
	}
	defer func() { _ = status.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = control.Close() })
	defer func() {
		if stop() {
			_ = control.Close()
		}
	}()
	if err := json.NewEncoder(control).Encode(c); err != nil && ctx.Err() == nil {
		_ = control.Close()
		return errors.Join(fmt.Errorf("start process: %w", err), cmd.Wait())
	}
	var r result
	decodeErr := lastResult(status, &r)
	waitErr := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case r.Reason != "":
		return &ociruntime.StartError{Code: r.Code, Reason: r.Reason}
	case !r.Ended:
		return fmt.Errorf("the supervisor of the process has ended: %w", errors.Join(decodeErr, waitErr))
	case r.Code != 0:
		return &ociruntime.ExitError{Code: r.Code}
	}
	return nil
}

// lastResult reads what the two processes have written: the first that says something knows best.
func lastResult(from io.Reader, r *result) error {
	err := json.NewDecoder(io.LimitReader(from, 1<<20)).Decode(r)
	_, _ = io.Copy(io.Discard, from)
	return err
}

func start(c *Command) (control, status *os.File, cmd *exec.Cmd, err error) {
	if !initialized {
		return nil, nil, nil, errors.New("this program does not call chroot.Init")
	}
	theirControl, control, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() { _ = theirControl.Close() }()
	status, theirStatus, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, errors.Join(err, control.Close())
	}
	defer func() { _ = theirStatus.Close() }()
	cmd = exec.Command("/proc/self/exe")
	cmd.Args, cmd.Env, cmd.Dir = c.argv(supervisorName), []string{}, "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.ExtraFiles = []*os.File{theirControl, theirStatus, c.Listener, c.Held}
	if c.Listener != nil {
		defer func() { _ = c.Listener.Close() }()
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal of the user's, and no Ctrl-C from it
	if err := cmd.Start(); err != nil {
		return nil, nil, nil, errors.Join(err, control.Close(), status.Close())
	}
	return control, status, cmd, nil
}

// argv[0] of the two processes, and the argument that says that they have a listenerFD.
const (
	supervisorName = "mica-chroot"
	commandName    = "mica-chroot-command"
	withListener   = "listener"
)

func (c *Command) argv(name string) []string {
	if c.Listener != nil {
		return []string{name, withListener}
	}
	return []string{name}
}

// initialized is set by Init.
var initialized bool

// Init runs one of the two processes and does not return, if args name one. It is called first thing.
func Init(args []string) {
	initialized = true
	if len(args) == 0 {
		return
	}
	more := args[1:]
	if len(more) > 0 && !slices.Equal(more, []string{withListener}) {
		return
	}
	switch args[0] {
	case supervisorName:
		os.Exit(supervise(more))
	case commandName:
		os.Exit(execute())
	}
}

// report tells the result.
func report(to io.Writer, r result) int {
	if err := json.NewEncoder(to).Encode(r); err != nil {
		return 1
	}
	return 0
}
