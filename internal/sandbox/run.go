package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/union"
	"github.com/micabuild/mica/internal/userns"
)

// containerID is what the runtime calls the process. Each has a state folder of its own, so one name serves all.
const containerID = "mica"

// bundle is the folder of one run: the OCI bundle with its config.json and rootfs, and what is mounted from it.
type bundle struct {
	dir    string
	rootfs string
	// root is the mount of rootfs that the process has for its root, with what is mounted in it.
	root string
	p    *Process
	// sources are where the bundle shows what each of p.Mounts is of, and left those that the runtime mounts.
	sources []string
	left    []bool
	// mounted and listeners end with the run.
	mounted   []string
	listeners []net.Listener
	ids       ids
	// host are the ids that exist here.
	host userns.IDs
}

// run prepares the bundle and runs it, on a thread with namespaces of its own.
func (h *Host) run(ctx context.Context, p *Process, dir string) (err error) {
	// What is made for one run stays in memory: a disk takes longer to make and remove such files than some steps run.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700"); err != nil {
		return fmt.Errorf("prepare sandbox: mount %s: %w", dir, err)
	}
	b := &bundle{dir: dir, rootfs: filepath.Join(dir, "rootfs"), p: p, host: h.ids}
	defer b.unmount()
	if err := b.mount(); err != nil {
		return err
	}
	if err := b.prepare(); err != nil {
		return err
	}
	clean := b.stubCleaner()
	defer func() {
		b.detach()
		clean()
		if err == nil {
			err = b.seal()
		}
	}()
	if err := b.attach(); err != nil {
		return err
	}
	spec, err := b.spec()
	if err != nil {
		return err
	}
	ended, err := h.suit(spec, dir)
	if err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	if err := b.write(spec); err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	err = h.exec(ctx, b)
	ended()
	return err
}

// mount puts the root filesystem and the sources of mounts in place. At the very bottom of the root lies a folder with
// every mount point: the runtime finds them there and has nothing to make, so that the upper directory keeps clean.
func (b *bundle) mount() error {
	if err := os.Mkdir(b.rootfs, 0o755); err != nil {
		return fmt.Errorf("prepare root filesystem: %w", err)
	}
	for i, m := range b.p.Mounts {
		src, err := b.source(i, m)
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, cause(err))
		}
		b.sources = append(b.sources, src)
	}
	stubs := filepath.Join(b.dir, "stubs")
	if err := b.makeStubs(stubs); err != nil {
		return err
	}
	root := b.p.Root
	root.Lowers = append([]string{stubs}, root.Lowers...)
	if err := union.Mount(b.rootfs, b.rootfs+"-links", root, b.host.Nested()); err != nil {
		return err
	}
	var err error
	if b.left, err = b.leftToRuntime(); err != nil {
		return err
	}
	return b.checkTargets()
}

func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func (b *bundle) unmount() {
	for _, l := range b.listeners {
		_ = l.Close()
	}
	for _, dir := range slices.Concat([]string{b.rootfs}, b.mounted, []string{b.dir}) {
		if unix.Unmount(dir, 0) != nil {
			// The namespace ends with the thread; this only makes it sooner.
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	}
}

// prepare resolves the user and the command, and makes the working directory and the network's files.
func (b *bundle) prepare() (err error) {
	if b.ids, err = lookupUser(b.rootfs, b.p.User, b.p.Groups); err != nil {
		return err
	}
	if err := b.makeCwd(); err != nil {
		return err
	}
	if err := b.findExecutable(); err != nil {
		return err
	}
	if err := b.writeNetworkFiles(); err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	return nil
}

// write makes the bundle's configuration.
func (b *bundle) write(spec *specs.Spec) error {
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, "config.json"), data, 0o600)
}

// exec runs the runtime in the foreground and translates how it ends.
func (h *Host) exec(ctx context.Context, b *bundle) error {
	cmd := h.command(b.dir, "run", "--bundle", b.dir, containerID)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = b.p.Stdin, b.p.Stdout, b.p.Stderr
	// What runs in the foreground of a terminal must stay in its process group; a build step need not see Ctrl-C.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: b.p.Stdin == nil && !b.p.TTY}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := cmd.Start(); err != nil {
		return &StartError{125, fmt.Sprintf("start %s: %v", h.runtime, cause(err))}
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			return outcome(err, logPath(b.dir))
		case sig := <-b.p.Signals:
			_ = cmd.Process.Signal(sig)
		case <-ctx.Done():
			// From this thread: the runtime must see the process under the number that it knows.
			_ = h.command(b.dir, "delete", "--force", containerID).Run()
			_ = cmd.Process.Kill()
			_ = <-done //nolint:staticcheck // only that it has ended matters
			return context.Cause(ctx)
		}
	}
}

// outcome tells a process's own end from the runtime's failure to start it, of which its log speaks.
func outcome(err error, log string) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("wait for process: %w", err)
	}
	if reason := runtimeError(log); reason != "" {
		return startError(reason)
	}
	if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return &ExitError{128 + int(st.Signal())}
	}
	return &ExitError{exit.ExitCode()}
}

// runtimeError is the last error in a runtime's JSON log.
func runtimeError(log string) string {
	data, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	var reason string
	for line := range strings.SplitSeq(string(data), "\n") {
		var entry struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Level == "error" {
			reason = entry.Msg
		}
	}
	return reason
}

func startError(reason string) error {
	for _, prefix := range []string{"runc run failed: ", "unable to start container process: ", "container_linux.go"} {
		reason = strings.TrimPrefix(reason, prefix)
	}
	// runc: `exec: "x": executable file not found in $PATH`; crun: executable file `x` not found in $PATH: No such file or
	// directory, open executable: Permission denied.
	said := strings.ToLower(reason)
	has := func(part string) bool { return strings.Contains(said, part) }
	code := 125
	switch {
	case has("executable file") && has("not found"), has("no such file or directory") && has("exec"):
		code = 127
	case (has("permission denied") || has("operation not permitted")) && has("exec"), has("is a directory"):
		code = 126
	}
	return &StartError{code, reason}
}
