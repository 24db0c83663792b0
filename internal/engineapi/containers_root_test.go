package engineapi

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// newRootRig is a rig with an image in which the host's programs are mounted.
func newRootRig(t *testing.T) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	r := newRig(t)
	r.image("1", "app:latest")
	return r
}

// script is a container that runs a shell.
func script(text string) client.ContainerCreateOptions {
	var binds []string
	for _, dir := range []string{"/bin", "/lib", "/lib64", "/usr"} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			binds = append(binds, dir+":"+dir+":ro")
		}
	}
	return client.ContainerCreateOptions{
		Config:     &container.Config{Image: "app", Cmd: []string{"/bin/sh", "-c", text}},
		HostConfig: &container.HostConfig{Binds: binds, NetworkMode: "none"},
	}
}

// start starts a container.
func (r *rig) start(id string) {
	r.t.Helper()
	if _, err := r.ContainerStart(r.t.Context(), id, client.ContainerStartOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// exit waits for the end of a container.
func (r *rig) exit(id string, until container.WaitCondition) func() int64 {
	w := r.ContainerWait(r.t.Context(), id, client.ContainerWaitOptions{Condition: until})
	return func() int64 {
		r.t.Helper()
		select {
		case got := <-w.Result:
			return got.StatusCode
		case err := <-w.Error:
			r.t.Fatal(err)
			return -1
		}
	}
}

// attach connects with a container.
func (r *rig) attach(id string, o client.ContainerAttachOptions) client.HijackedResponse {
	r.t.Helper()
	o.Stream = true
	got, err := r.ContainerAttach(r.t.Context(), id, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(got.Close)
	return got.HijackedResponse
}

// split reads both streams to their end.
func split(t *testing.T, from io.Reader) (stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	if _, copyErr := stdcopy.StdCopy(&out, &err, from); copyErr != nil {
		t.Fatal(copyErr)
	}
	return out.String(), err.String()
}

func (r *rig) logs(id string, o client.ContainerLogsOptions) (stdout, stderr string) {
	r.t.Helper()
	o.ShowStdout = true
	o.ShowStderr = o.Tail == ""
	body, err := r.ContainerLogs(r.t.Context(), id, o)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	return split(r.t, body)
}

// TestRootRun does what docker run -i --rm does.
func TestRootRun(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	o := script(`read line; echo "got $line"; echo bad >&2; exit 7`)
	o.Config.OpenStdin, o.Config.StdinOnce, o.HostConfig.AutoRemove = true, true, true
	id := r.create("run", o)
	conn := r.attach(id, client.ContainerAttachOptions{Stdin: true, Stdout: true, Stderr: true})
	code := r.exit(id, container.WaitConditionRemoved)
	if _, err := io.WriteString(conn.Conn, "typed\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r.start(id)
	if stdout, stderr := split(t, conn.Reader); stdout != "got typed\n" || stderr != "bad\n" {
		t.Errorf("%q, %q", stdout, stderr)
	}
	if n := code(); n != 7 {
		t.Errorf("exit code %d", n)
	}
	if got := r.listed(client.ContainerListOptions{All: true}); got != nil {
		t.Errorf("left: %v", got)
	}
	if left, _ := os.ReadDir(filepath.Join(r.server.o.Root, "tmp")); len(left) != 0 {
		t.Errorf("left in the store: %v", left)
	}
}

// TestRootTerminal: size, keys and detaching of a terminal.
func TestRootTerminal(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	o := script(`stty size; read a; stty size; read b; echo "end $b"`)
	o.Config.Tty, o.Config.OpenStdin, o.HostConfig.ConsoleSize = true, true, [2]uint{11, 22}
	id := r.create("tty", o)
	conn := r.attach(id, client.ContainerAttachOptions{Stdin: true, Stdout: true, DetachKeys: "ctrl-a,d"})
	code := r.exit(id, container.WaitConditionNextExit)
	r.start(id)
	line, err := conn.Reader.ReadString('\n')
	if err != nil || line != "11 22\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := r.ContainerResize(t.Context(), id, client.ContainerResizeOptions{Height: 33, Width: 44}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn.Conn, "x\r"); err != nil {
		t.Fatal(err)
	}
	for line != "33 44\r\n" {
		if line, err = conn.Reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(conn.Conn, "\x01d"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn.Reader); err != nil || len(rest) != 0 {
		t.Errorf("detached: %q, %v", rest, err)
	}
	again := r.attach(id, client.ContainerAttachOptions{Stdin: true, Stdout: true})
	if _, err := io.WriteString(again.Conn, "z\r"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(again.Reader); err != nil || !strings.Contains(string(rest), "end z\r\n") {
		t.Errorf("attached again: %q, %v", rest, err)
	}
	if n := code(); n != 0 {
		t.Errorf("exit code %d", n)
	}
}

// TestRootLogs: what was written, from when and how much, and what comes.
func TestRootLogs(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	o := script(`echo one; echo bad >&2; echo three; read x; printf end`)
	o.Config.OpenStdin, o.Config.StdinOnce = true, true
	id := r.create("log", o)
	in := r.attach(id, client.ContainerAttachOptions{Stdin: true})
	code := r.exit(id, container.WaitConditionNextExit)
	r.start(id)
	body, err := r.ContainerLogs(t.Context(), id, client.ContainerLogsOptions{ShowStdout: true, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	head := make([]byte, len("one\nthree\n")+2*8)
	if _, err := io.ReadFull(body, head); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in.Conn, "\n"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(body)
	if out, _ := split(t, bytes.NewReader(append(head, rest...))); err != nil || out != "one\nthree\nend" {
		t.Errorf("followed: %q, %v", out, err)
	}
	code()
	if out, err := r.logs(id, client.ContainerLogsOptions{Tail: "2"}); out != "three\nend" || err != "" {
		t.Errorf("the last: %q, %q", out, err)
	}
	if out, _ := r.logs(id, client.ContainerLogsOptions{Since: "2h", Timestamps: true}); !strings.HasPrefix(out, time.Now().UTC().Format("2006-01-02T")) {
		t.Errorf("with times: %q", out)
	}
	if out, err := r.logs(id, client.ContainerLogsOptions{Until: "2h"}); out != "" || err != "" {
		t.Errorf("of earlier: %q, %q", out, err)
	}
	r.start(id) // the log goes on
	if _, err := r.ContainerKill(t.Context(), id, client.ContainerKillOptions{}); err != nil {
		t.Fatal(err)
	}
	if out, _ := r.logs(id, client.ContainerLogsOptions{}); !strings.HasPrefix(out, "one\nthree\nend") {
		t.Errorf("of both runs: %q", out)
	}
}

// TestRootExec: further processes in a container that runs.
func TestRootExec(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	id := r.create("exec", script("exec sleep 1000"))
	if _, err := r.ExecCreate(t.Context(), id, client.ExecCreateOptions{Cmd: []string{"true"}}); !errdefs.IsConflict(err) {
		t.Errorf("not started: %v", err)
	}
	r.start(id)
	// Before other processes: the runtime may still be in the container when one of them has ended.
	for {
		top, err := r.ContainerTop(t.Context(), id, client.ContainerTopOptions{Arguments: []string{"-eo", "pid,comm"}})
		if err != nil || len(top.Processes) != 1 {
			t.Fatalf("%+v, %v", top, err)
		}
		if top.Processes[0][1] == "sleep" { // not the runtime or the shell any more
			break
		}
	}
	stats, err := r.ContainerStats(t.Context(), id, client.ContainerStatsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(stats.Body); err != nil || !strings.Contains(string(text), `"pids_stats":{"current":1`) {
		t.Errorf("%s, %v", text, err)
	}
	run := func(o client.ExecCreateOptions, input string) (stdout, stderr string, code *int) {
		t.Helper()
		o.AttachStdin, o.AttachStdout, o.AttachStderr = input != "", true, true
		made, err := r.ExecCreate(t.Context(), id, o)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := r.ExecAttach(t.Context(), made.ID, client.ExecAttachOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if input != "" { // a process that cannot be started may have ended the connection
			if _, err := io.WriteString(conn.Conn, input); err != nil {
				t.Fatal(err)
			}
		}
		_ = conn.CloseWrite()
		stdout, stderr = split(t, conn.Reader)
		got, err := r.ExecInspect(t.Context(), made.ID, client.ExecInspectOptions{})
		if err != nil || got.Running || got.ContainerID != id {
			t.Errorf("%+v, %v", got, err)
		}
		return stdout, stderr, &got.ExitCode
	}
	out, bad, code := run(client.ExecCreateOptions{Cmd: []string{"/bin/sh", "-c", `cat; pwd; echo "$A" >&2; exit 5`}, Env: []string{"A=b"}, WorkingDir: "/usr"}, "input\n")
	if out != "input\n/usr\n" || bad != "b\n" || *code != 5 {
		t.Errorf("%q, %q, %d", out, bad, *code)
	}
	if out, bad, code := run(client.ExecCreateOptions{Cmd: []string{"/no/such"}}, ""); out != "" || !strings.Contains(bad, "/no/such") || *code != 127 {
		t.Errorf("%q, %q, %d", out, bad, *code)
	}
}

// TestRootCopy: files into a container and out of it, whether it runs or not, and an image of it.
func TestRootCopy(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	id := r.create("copy", script("exec sleep 1000"))
	for _, state := range []string{"created", "running"} {
		if state == "running" {
			r.start(id)
		}
		if _, err := r.CopyToContainer(t.Context(), id, client.CopyToContainerOptions{DestinationPath: "/", Content: bytes.NewReader(archive(t, state+"/a", "text"))}); err != nil {
			t.Fatal(err)
		}
		got, err := r.CopyFromContainer(t.Context(), id, client.CopyFromContainerOptions{SourcePath: "/" + state})
		if err != nil {
			t.Fatal(err)
		}
		names := tarNames(t, got.Content)
		if want := []string{state + "/", state + "/a"}; !slices.Equal(names, want) || !got.Stat.Mode.IsDir() || got.Stat.Name != state {
			t.Errorf("%v, %+v", names, got.Stat)
		}
		if _, err := r.ContainerStatPath(t.Context(), id, client.ContainerStatPathOptions{Path: "/none"}); !errdefs.IsNotFound(err) {
			t.Errorf("a file that is missing: %v", err)
		}
	}
	diff, err := r.ContainerDiff(t.Context(), id, client.ContainerDiffOptions{})
	if err != nil || !slices.ContainsFunc(diff.Changes, func(c container.FilesystemChange) bool {
		return c.Path == "/created/a" && c.Kind == container.ChangeAdd
	}) {
		t.Errorf("%+v, %v", diff, err)
	}
	made, err := r.ContainerCommit(t.Context(), id, client.ContainerCommitOptions{Reference: "made:1", Author: "me", Comment: "why", Changes: []string{"ENV A=1"}})
	if err != nil {
		t.Fatal(err)
	}
	img, err := r.ImageInspect(t.Context(), "made:1")
	if err != nil || img.ID != made.ID || img.Author != "me" || !slices.Contains(img.Config.Env, "A=1") || img.Config.Labels["of"] != "1" || len(img.RootFS.Layers) != 2 {
		t.Errorf("%+v, %v", img, err)
	}
}

// TestRootCopyLimits: the root is called as Docker calls it, and what is copied has the limits of an archive.
func TestRootCopyLimits(t *testing.T) {
	r := newRootRig(t)
	o := script("true")
	o.HostConfig.Binds = nil // they are copied, too
	id := r.create("", o)
	for path, want := range map[string]string{"/": "/", "/.": "./"} {
		got, err := r.CopyFromContainer(t.Context(), id, client.CopyFromContainerOptions{SourcePath: path})
		if err != nil {
			t.Fatal(err)
		}
		if names := tarNames(t, got.Content); len(names) == 0 || names[0] != want || !slices.Contains(names, want+"f") {
			t.Errorf("%s: %v", path, names)
		}
	}
	t.Setenv("MICA_MAX_UNPACKED_SIZE", "1MB")
	_, err := r.CopyToContainer(t.Context(), id, client.CopyToContainerOptions{DestinationPath: "/", Content: bytes.NewReader(archive(t, "large", strings.Repeat("x", 2<<20)))})
	if err == nil || !strings.Contains(err.Error(), "MICA_MAX_UNPACKED_SIZE") {
		t.Errorf("a large file: %v", err)
	}
}

func tarNames(t *testing.T, from io.ReadCloser) (names []string) {
	t.Helper()
	defer func() { _ = from.Close() }()
	for tr := tar.NewReader(from); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

// TestRootStop: stop signals, their timeout, and the events of it.
func TestRootStop(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	for name, c := range map[string]struct {
		script string
		signal string
		wait   int
		want   int64
	}{
		"a signal that is handled": {`trap 'exit 5' USR1; echo up; while :; do sleep 0.01; done`, "USR1", -1, 5},
		"one that is ignored":      {`trap '' TERM; echo up; while :; do sleep 0.01; done`, "", 0, 137},
	} {
		o := script(c.script)
		o.Config.StopSignal = c.signal
		id := r.create("", o)
		out := r.attach(id, client.ContainerAttachOptions{Stdout: true})
		code := r.exit(id, container.WaitConditionNextExit)
		r.start(id)
		if _, err := io.ReadFull(out.Reader, make([]byte, 8+len("up\n"))); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{}); !errdefs.IsConflict(err) {
			t.Errorf("%s: removed while it runs: %v", name, err)
		}
		if _, err := r.ContainerStop(t.Context(), id, client.ContainerStopOptions{Timeout: &c.wait}); err != nil {
			t.Fatal(err)
		}
		if n := code(); n != c.want {
			t.Errorf("%s: exit code %d", name, n)
		}
		if _, err := r.ContainerStop(t.Context(), id, client.ContainerStopOptions{}); err != nil {
			t.Errorf("%s: stopped again: %v", name, err)
		}
		if _, err := r.ContainerKill(t.Context(), id, client.ContainerKillOptions{}); !errdefs.IsConflict(err) {
			t.Errorf("%s: killed when it has ended: %v", name, err)
		}
		var actions []events.Action
		for _, e := range r.server.events.kept {
			if e.Actor.ID == id {
				actions = append(actions, e.Action)
			}
		}
		for _, want := range []events.Action{events.ActionCreate, events.ActionAttach, events.ActionStart, events.ActionKill, events.ActionDie, events.ActionStop} {
			if !slices.Contains(actions, want) {
				t.Errorf("%s: no event %s: %v", name, want, actions)
			}
		}
	}
}

// TestRootSlowClient: a client that reads nothing holds a process up for some time only.
func TestRootSlowClient(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	r.server.writeTimeout = 100 * time.Millisecond
	id := r.create("", script("head -c 8000000 /dev/zero; exit 3"))
	r.attach(id, client.ContainerAttachOptions{Stdout: true})
	code := r.exit(id, container.WaitConditionNextExit)
	r.start(id)
	if n := code(); n != 3 {
		t.Errorf("exit code %d", n)
	}
}

// TestRootLostClient: the server closes the connection of a client that has gone, though nothing is written and what it has sent is not read.
func TestRootLostClient(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	o := script("exec sleep 1000")
	o.Config.OpenStdin = true
	id := r.create("", o)
	r.start(id)
	made, err := r.ExecCreate(t.Context(), id, client.ExecCreateOptions{Cmd: []string{"sleep", "1000"}, AttachStdout: true})
	if err != nil {
		t.Fatal(err)
	}
	exec, err := r.ExecAttach(t.Context(), made.ID, client.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	attached := r.attach(id, client.ContainerAttachOptions{Stdin: true, Stdout: true})
	_ = attached.Conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	for err = nil; err == nil; { // until the pipe of the process and the socket are full
		_, err = attached.Conn.Write(make([]byte, 64<<10))
	}
	for len(r.closed) > 0 {
		<-r.closed
	}
	exec.Close()
	attached.Close()
	<-r.closed
	<-r.closed
}

// TestRootUnreadInput: a client gets all output of a process that has ended before its input.
func TestRootUnreadInput(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	id := r.create("", script("exec sleep 1000"))
	r.start(id)
	made, err := r.ExecCreate(t.Context(), id, client.ExecCreateOptions{Cmd: []string{"head", "-n1"}, AttachStdin: true, AttachStdout: true})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := r.ExecAttach(t.Context(), made.ID, client.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		for _, err := io.WriteString(conn.Conn, "y\n"); err == nil; {
			_, err = io.WriteString(conn.Conn, "y\n")
		}
	}()
	if out, _ := split(t, conn.Reader); out != "y\n" {
		t.Errorf("%q", out)
	}
}

// TestRootExportDuringRemove: what reads the files of a container gets all of them, also when it is killed and removed meanwhile.
func TestRootExportDuringRemove(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	const files = 1000 // whose tar no socket holds
	id := r.create("", script(`i=0; while [ $i -lt 1000 ]; do : >/made-$i; i=$((i+1)); done; echo ready; exec sleep 1000`))
	out := r.attach(id, client.ContainerAttachOptions{Stdout: true})
	r.start(id)
	if _, err := io.ReadFull(out.Reader, make([]byte, 8+len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	all, err := r.ContainerExport(t.Context(), id, client.ContainerExportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	code := r.exit(id, container.WaitConditionNextExit)
	removed := make(chan error, 1)
	go func() {
		_, err := r.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{Force: true})
		removed <- err
	}()
	code()
	names := tarNames(t, all)
	if n := len(slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, "made-") })); n != files {
		t.Errorf("%d files of %d", n, files)
	}
	if err := <-removed; err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Join(r.server.o.Root, "tmp")); len(left) != 0 {
		t.Errorf("left in the store: %v", left)
	}
}

// TestRootRestartToRemove: a container that removes itself stays when it is restarted.
func TestRootRestartToRemove(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	o := script("exec sleep 1000")
	o.HostConfig.AutoRemove = true
	id := r.create("", o)
	r.start(id)
	zero := 0
	if _, err := r.ContainerRestart(t.Context(), id, client.ContainerRestartOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	if got, err := r.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{}); err != nil || !got.Container.State.Running {
		t.Errorf("%+v, %v", got.Container.State, err)
	}
	gone := r.exit(id, container.WaitConditionRemoved)
	if _, err := r.ContainerStop(t.Context(), id, client.ContainerStopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	gone()
}

// TestRootStopWithoutClient: a stop goes on when its client has gone.
func TestRootStopWithoutClient(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	id := r.create("", script(`trap 'echo signalled' TERM; echo up; while :; do sleep 0.01; done`))
	out := r.attach(id, client.ContainerAttachOptions{Stdout: true})
	code := r.exit(id, container.WaitConditionNextExit)
	r.start(id)
	if _, err := io.ReadFull(out.Reader, make([]byte, 8+len("up\n"))); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		one := 1
		_, _ = r.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &one}) // whatever the client has seen
	}()
	if _, err := io.ReadFull(out.Reader, make([]byte, 8+len("signalled\n"))); err != nil {
		t.Fatal(err)
	}
	leave()
	<-stopped
	if n := code(); n != 137 {
		t.Errorf("exit code %d", n)
	}
}

// TestRootStartFails: the words and codes of Docker, by which docker run ends.
func TestRootStartFails(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	o := script("")
	o.Config.Cmd = []string{"nosuch"}
	id := r.create("", o)
	_, err := r.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), `exec: "nosuch": executable file not found in $PATH`) {
		t.Errorf("%v", err)
	}
	got, err := r.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil || got.Container.State.ExitCode != 127 || got.Container.State.Running || got.Container.State.Error == "" {
		t.Errorf("%+v, %v", got.Container.State, err)
	}
}

// TestRootClose: with the server all containers end.
func TestRootClose(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	o := script("sleep 1000")
	o.HostConfig.AutoRemove, o.Config.Volumes = true, map[string]struct{}{"/v": {}}
	id := r.create("", o)
	r.start(id)
	out := r.attach(id, client.ContainerAttachOptions{Stdout: true})
	idle := r.attach(r.create("", script("true")), client.ContainerAttachOptions{Stdout: true})
	if err := r.server.Close(); err != nil {
		t.Fatal(err)
	}
	for _, conn := range []client.HijackedResponse{out, idle} {
		if rest, err := io.ReadAll(conn.Reader); err != nil || len(rest) != 0 {
			t.Errorf("%q, %v", rest, err)
		}
	}
	if _, err := r.ContainerCreate(t.Context(), script("true")); err == nil {
		t.Error("a server that has ended makes a container")
	}
	if list, err := r.VolumeList(t.Context(), client.VolumeListOptions{}); err != nil || len(list.Items) != 0 {
		t.Errorf("volumes of a container that removes itself: %+v, %v", list.Items, err)
	}
	if left, _ := os.ReadDir(filepath.Join(r.server.o.Root, "tmp")); len(left) != 0 {
		t.Errorf("left in the store: %v", left)
	}
}

// TestRootNames: containers of a network find each other by name, whichever starts first.
func TestRootNames(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	r.network("mine", nil)
	app := func(text, net string, aliases ...string) client.ContainerCreateOptions {
		o := script(text)
		o.HostConfig.NetworkMode, o.NetworkingConfig = container.NetworkMode(net), in(net, aliases...).NetworkingConfig
		return o
	}
	find := `grep -ow -e web -e www -e db /etc/hosts; true`
	first := app("read x; "+find, "mine", "www")
	first.Config.OpenStdin, first.Config.StdinOnce = true, true
	web := r.create("web", first)
	conn := r.attach(web, client.ContainerAttachOptions{Stdin: true, Stdout: true})
	r.start(web)
	o := app(find, "mine")
	db := r.create("db", o)
	dbOut := r.attach(db, client.ContainerAttachOptions{Stdout: true})
	r.start(db)
	stranger := r.create("stranger", app(find, "bridge"))
	strangerOut := r.attach(stranger, client.ContainerAttachOptions{Stdout: true})
	r.start(stranger)
	if _, err := io.WriteString(conn.Conn, "\n"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		from io.Reader
		want string
	}{"web": {conn.Reader, "web\nwww\ndb\n"}, "db": {dbOut.Reader, "db\nweb\nwww\n"}, "stranger": {strangerOut.Reader, ""}} {
		if got, _ := split(t, c.from); got != c.want {
			t.Errorf("%s finds %q, want %q", name, got, c.want)
		}
	}
}

// TestRootUmask: the umask is that of the container's processes, and an exposed port of a protocol that mica does not publish is no obstacle.
func TestRootUmask(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	o := script(`umask`)
	mask := uint32(0o27)
	o.HostConfig.Umask, o.HostConfig.Annotations = &mask, map[string]string{"org.example.a": "b"}
	o.Config.ExposedPorts = network.PortSet{network.MustParsePort("7/sctp"): {}}
	id := r.create("umask", o)
	wait := r.exit(id, container.WaitConditionNextExit)
	r.start(id)
	if code := wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if out, _ := r.logs(id, client.ContainerLogsOptions{}); out != "0027\n" {
		t.Errorf("umask is %q", out)
	}
	for filter, want := range map[string]int{"org.example.a": 1, "org.example.a=b": 1, "org.example.a=c": 0} {
		list, err := r.ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("annotation", filter)})
		if err != nil || len(list.Items) != want {
			t.Errorf("%s: %v, %v", filter, list.Items, err)
		}
	}
}

// TestRootFailedStarts: codes by which docker run and docker exec end, and nothing that stays of a container that removes itself.
func TestRootFailedStarts(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	for name, c := range map[string]struct {
		command []string
		user    string
		says    string
		code    int
	}{
		"a directory": {[]string{"/bin"}, "", "permission denied", 126},
		"a user":      {[]string{"/bin/true"}, "nosuch", "unable to find user nosuch: no matching entries in passwd file", 128},
	} {
		o := script("")
		o.Config.Cmd, o.Config.User = c.command, c.user
		o.HostConfig.Binds = nil
		if c.user != "" {
			o = script("true")
			o.Config.User = c.user
		}
		id := r.create("", o)
		if _, err := r.CopyToContainer(t.Context(), id, client.CopyToContainerOptions{DestinationPath: "/", Content: bytes.NewReader(archive(t, "bin/x", "x"))}); err != nil && c.user == "" {
			t.Fatal(err)
		}
		_, err := r.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		got, err := r.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
		if err != nil || got.Container.State.ExitCode != c.code {
			t.Errorf("%s: %+v, %v", name, got.Container.State, err)
		}
	}
	o := script("")
	o.Config.Cmd, o.HostConfig.AutoRemove = []string{"nosuch"}, true
	id := r.create("gone", o)
	if _, err := r.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err == nil {
		t.Error("a missing program starts")
	}
	if _, err := r.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("it stays: %v", err)
	}
}

// TestRootTerminalOfExec: the size of a terminal of exec, a user that does not exist, and the list of what runs.
func TestRootTerminalOfExec(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	id := r.create("", script("exec sleep 1000"))
	r.start(id)
	made, err := r.ExecCreate(t.Context(), id, client.ExecCreateOptions{Cmd: []string{"/bin/sh", "-c", "read x; stty size; read x"}, TTY: true, AttachStdin: true, AttachStdout: true})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := r.ExecAttach(t.Context(), made.ID, client.ExecAttachOptions{TTY: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := r.ExecResize(t.Context(), made.ID, client.ExecResizeOptions{Height: 12, Width: 34}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn.Conn, "\r"); err != nil {
		t.Fatal(err)
	}
	for line := ""; line != "12 34\r\n"; {
		if line, err = conn.Reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	inspect := func() []string {
		got, err := r.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return got.Container.ExecIDs
	}
	if got := inspect(); !slices.Equal(got, []string{made.ID}) {
		t.Errorf("that run: %v", got)
	}
	if _, err := io.WriteString(conn.Conn, "\r"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn.Reader)
	if got := inspect(); len(got) != 0 {
		t.Errorf("after the end: %v", got)
	}
	stranger, err := r.ExecCreate(t.Context(), id, client.ExecCreateOptions{Cmd: []string{"/bin/true"}, User: "nosuch"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ExecStart(t.Context(), stranger.ID, client.ExecStartOptions{Detach: true}); err == nil || !strings.Contains(err.Error(), "unable to find user nosuch") {
		t.Errorf("%v", err)
	}
	if got, err := r.ExecInspect(t.Context(), stranger.ID, client.ExecInspectOptions{}); err != nil || got.ExitCode != 126 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestRootRestartAndExport: a second run on the files of the first, and all files as a tar.
func TestRootRestartAndExport(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	id := r.create("", script(`echo run >>/log; ln -sf /log /link; echo ready; exec sleep 1000`))
	ready := func(runs int) {
		t.Helper()
		log, err := r.ContainerLogs(t.Context(), id, client.ContainerLogsOptions{ShowStdout: true, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = log.Close() }()
		if _, err := io.CopyN(io.Discard, log, int64(runs*(8+len("ready\n")))); err != nil { // each line has a head of 8 bytes
			t.Fatal(err)
		}
	}
	r.start(id)
	ready(1)
	zero := 0
	if _, err := r.ContainerRestart(t.Context(), id, client.ContainerRestartOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	ready(2)
	if _, err := r.ContainerStop(t.Context(), id, client.ContainerStopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	got, err := r.ContainerStatPath(t.Context(), id, client.ContainerStatPathOptions{Path: "/link"})
	if err != nil || got.Stat.LinkTarget != "/log" || got.Stat.Mode&os.ModeSymlink == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	all, err := r.ContainerExport(t.Context(), id, client.ContainerExportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if names := tarNames(t, all); !slices.Contains(names, "log") || !slices.Contains(names, "link") {
		t.Errorf("%v", names)
	}
}
