package runcmd

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/sandbox"
)

// TestRunFails: what is wrong with the flags or the image ends with 125 before a process starts.
func TestRunFails(t *testing.T) {
	t.Parallel()
	m, reg := commandtest.New(t), registrytest.New(t)
	reg.PutPlatforms("app", "1")
	m.Tag(m.Image(nil), "app:1")
	exists := commandtest.File(t, "cid", "")
	for args, want := range map[string]string{
		"app:1":                                          "no command specified",
		"--entrypoint= app:1":                            "no command specified",
		"A":                                              `invalid reference "A": invalid reference format: repository name (library/A) must be lowercase`,
		"REG/nosuch sh":                                  "manifest for REG/nosuch:latest not found: manifest unknown",
		"--pull never REG/app:1":                         "No such image: REG/app:1",
		"--pull always REG/app:2":                        "manifest for REG/app:2 not found: manifest unknown",
		"--pull sometimes app:1":                         `invalid pull option: 'sometimes': must be one of "always", "missing" or "never"`,
		"--platform linux/s390x REG/app:1":               "REG/app:1: no matching manifest for linux/s390x in the manifest list entries: it has [linux/" + runtime.GOARCH + " linux/" + registrytest.OtherArch() + "]",
		"--platform a/b/c/d app:1":                       `invalid platform "a/b/c/d": "a/b/c/d": cannot parse platform specifier: invalid argument`,
		"--stop-signal X app:1":                          "invalid signal: X",
		"-d app:1":                                       "--detach is not supported: mica has no daemon: run it with & or as a service (systemd-run mica run …)",
		"--restart always app:1":                         "--restart is not supported: a container is removed when it ends: start it again from a script or a service",
		"--mac-address x app:1":                          "x is not a valid mac address",
		"--mac-address 02:00:00:00:00:01 app:1":          "--mac-address is not supported: a container's addresses are given to it",
		"--isolation x app:1":                            `invalid isolation: "x": use default`,
		"--hostname h --uts host app:1":                  "conflicting options: hostname and the UTS mode",
		"--ipc x app:1":                                  "invalid IPC mode: x",
		"--pid host app:1":                               "--pid host is not possible: mica's processes have a pid namespace that ends with mica: leave it out",
		"--security-opt x app:1":                         `invalid --security-opt: "x"`,
		"--device x app:1":                               "x is not an absolute path",
		"--gpus driver=x app:1":                          `could not select device driver "x" with capabilities: [[gpu]]`,
		"--label-file /no/such app:1":                    "--label-file: open /no/such: no such file or directory",
		"--cidfile " + exists + " app:1":                 "container ID file found, make sure the other container isn't running or delete " + exists,
		"--network mine app:1 sh":                        `network "mine" is not supported: use default, host or none`,
		"-w relative app:1 sh":                           `the working directory "relative" is invalid, it needs to be an absolute path`,
		"-v x app:1 sh":                                  "invalid volume specification: 'x': destination must be an absolute path other than /",
		"--tmpfs x app:1 sh":                             `invalid tmpfs "x": the path must be absolute`,
		"--mount type=bind,src=/no/such,dst=/x app:1 sh": `invalid mount config for type "bind": bind source path does not exist: /no/such`,
		"-v /a -v /a/ app:1 sh":                          "Duplicate mount point: /a/",
		"--runtime /no/such app:1 sh":                    `OCI runtime "/no/such"`,
		"-p x app:1 sh":                                  "invalid containerPort: x",
		"--expose 1:2 app:1 sh":                          "invalid port format for --expose: 1:2",
		"--cgroupns x app:1 sh":                          "--cgroupns: invalid CGROUP mode",
		"--oom-score-adj 2000 app:1 sh":                  "Invalid value 2000, range for oom score adj is [-1000, 1000]",
		"-m 5m app:1 sh":                                 "Minimum memory limit allowed is 6MB",
		"-e =x app:1 sh":                                 `invalid argument "=x" for "-e, --env" flag: invalid environment variable: =x`,
		"--add-host x app:1 sh":                          `invalid argument "x" for "--add-host" flag: `,
		"--device /dev/no-such app:1 sh":                 `error gathering device information while adding custom device "/dev/no-such": no such file or directory`,
	} {
		if !strings.Contains(args, "--network") {
			args = "--network none " + args // which starts no process
		}
		got := m.Run(NewRunCommand, strings.Fields(strings.ReplaceAll(args, "REG", reg.Addr))...)
		var exit *command.ExitError
		if !errors.As(got.Err, &exit) || exit.Code != 125 || got.Stdout != "" {
			t.Errorf("%s: %+v, want exit code 125", args, got)
		}
		text := strings.ReplaceAll(commandtest.Text(got.Err), reg.Addr, "REG")
		if !strings.HasPrefix(text, "mica: "+want) || !strings.HasSuffix(text, "\n\nRun 'mica run --help' for more information") {
			t.Errorf("%s: %q, want %q", args, text, want)
		}
	}
	got := m.Run(NewRunCommand, "-it", "app:1")
	var exit *command.ExitError
	if !errors.As(got.Err, &exit) || exit.Code != 1 || got.Err.Error() != "the input device is not a TTY" {
		t.Errorf("-it: %+v", got)
	}
	if left, err := os.ReadDir(filepath.Join(m.Store.Root(), "tmp")); err != nil || len(left) > 0 {
		t.Errorf("temporary directories are left: %v, %v", left, err)
	}
}

// TestRunFlagErrors are mistakes that the flags find themselves.
func TestRunFlagErrors(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	for args, want := range map[string]string{
		"--ulimit x a":          `invalid argument "x" for "--ulimit" flag: invalid ulimit argument: x`,
		"--dns x a":             `invalid argument "x" for "--dns" flag: IP address is not correctly formatted: x`,
		"--sysctl x a":          `invalid argument "x" for "--sysctl" flag: sysctl 'x' is not allowed`,
		"--label =x a":          `invalid argument "=x" for "-l, --label" flag: `,
		"--mount type=bind,x a": `invalid argument "type=bind,x" for "--mount" flag: `,
		"--shm-size x a":        `invalid argument "x" for "--shm-size" flag: invalid size: 'x'`,
		"--cpus x a":            `invalid argument "x" for "--cpus" flag: `,
		"--stop-timeout x a":    `invalid argument "x" for "--stop-timeout" flag: `,
		"--wings a":             "unknown flag: --wings",
		"":                      "mica: 'run' requires at least 1 argument\n",
	} {
		if got := m.Run(NewRunCommand, strings.Fields(args)...); !strings.HasPrefix(commandtest.Text(got.Err), want) {
			t.Errorf("%s: %v, want %q", args, got.Err, want)
		}
	}
}

// TestRunPulls: the image that is missing is pulled; stdout is the container's.
func TestRunPulls(t *testing.T) {
	t.Parallel()
	m, reg := commandtest.New(t), registrytest.New(t)
	index, _, _ := reg.PutPlatforms("app", "latest")
	for _, c := range []struct {
		flags  []string
		stderr string
	}{
		{nil, "Unable to find image 'REG/app:latest' locally\nDigest: " + index.Digest + "\nStatus: Downloaded newer image for REG/app:latest\n"},
		{nil, ""},
		{[]string{"--pull", "always"}, "Digest: " + index.Digest + "\nStatus: Image is up to date for REG/app:latest\n"},
		{[]string{"--pull", "always", "--quiet"}, ""},
		{[]string{"--pull", "never"}, ""},
	} {
		got := m.Run(NewRunCommand, append(c.flags, reg.Name("app"))...)
		lines := slices.DeleteFunc(strings.SplitAfter(strings.ReplaceAll(got.Stderr, reg.Addr, "REG"), "\n"), func(l string) bool {
			return strings.Contains(l, "Pull") || strings.Contains(l, "Already exists")
		})
		if text := strings.Join(lines, ""); text != c.stderr || got.Stdout != "" || !strings.Contains(commandtest.Text(got.Err), "no command specified") {
			t.Errorf("%q: %q, %v, want %q", c.flags, text, got.Err, c.stderr)
		}
	}
}

// parse reads flags.
func parse(t *testing.T, args ...string) *runFlags {
	t.Helper()
	var f runFlags
	fl := pflag.NewFlagSet("run", pflag.ContinueOnError)
	f.add(fl)
	if err := fl.Parse(args); err != nil {
		t.Fatal(err)
	}
	f.entrypointSet = fl.Changed("entrypoint")
	return &f
}

func TestCommand(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entrypoint, cmd []string
		flags, args     []string
		want            []string
		err             string
	}{
		"the image's command":              {cmd: []string{"sh", "-c"}, want: []string{"sh", "-c"}},
		"the image's entrypoint":           {entrypoint: []string{"e"}, cmd: []string{"c"}, want: []string{"e", "c"}},
		"arguments":                        {entrypoint: []string{"e"}, cmd: []string{"c"}, args: []string{"a", "b"}, want: []string{"e", "a", "b"}},
		"another entrypoint":               {entrypoint: []string{"e"}, cmd: []string{"c"}, flags: []string{"--entrypoint", "x"}, want: []string{"x"}},
		"another entrypoint and arguments": {entrypoint: []string{"e"}, flags: []string{"--entrypoint", "x"}, args: []string{"a"}, want: []string{"x", "a"}},
		"no entrypoint":                    {entrypoint: []string{"e"}, cmd: []string{"c"}, flags: []string{"--entrypoint", ""}, args: []string{"a"}, want: []string{"a"}},
		"nothing":                          {err: "no command specified"},
		"nothing of the image's":           {entrypoint: []string{"e"}, cmd: []string{"c"}, flags: []string{"--entrypoint="}, err: "no command specified"},
	} {
		img := &image.Image{Config: dockerspec.DockerOCIImage{}}
		img.Config.Config.Entrypoint, img.Config.Config.Cmd = c.entrypoint, c.cmd
		got, err := container.Command(img.Config.Config.ImageConfig, parse(t, c.flags...).newEntrypoint(), c.args)
		if diff := cmp.Diff(c.want, got); diff != "" || commandtest.Text(err) != c.err {
			t.Errorf("%s: %v, want %q\n%s", name, err, c.err, diff)
		}
	}
}

// TestProcess: what flags and the image's config make of a process.
func TestProcess(t *testing.T) {
	m := commandtest.New(t)
	img := m.Image(func(c map[string]any) {
		c["config"] = map[string]any{
			"Env": []string{"A=1"}, "WorkingDir": "/work", "User": "nobody", "Cmd": []string{"sh"}, "Volumes": map[string]any{"/data": map[string]any{}, "/data/deep": map[string]any{}},
		}
	})
	app := *m.App
	app.Stdout, _ = commandtest.Output(t)
	app.Stderr, _ = commandtest.Output(t)
	app.Stdin = strings.NewReader("")
	process := func(args ...string) *sandbox.Process {
		t.Helper()
		p, err := parse(t, args...).process(t.Context(), &app, img, nil, t.TempDir(), strings.Repeat("0123456789abcdef", 4))
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return p
	}
	p := process()
	if !slices.Equal(p.Args, []string{"sh"}) || p.Cwd != "/work" || p.User != "nobody" || p.Hostname != "0123456789ab" || p.Network != sandbox.NetworkOwn || p.Stdin != nil || p.TTY || !p.WritableHosts {
		t.Errorf("%+v", p)
	}
	if !slices.Equal(p.Env, []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=0123456789ab", "A=1"}) {
		t.Errorf("%q", p.Env)
	}
	if len(p.Mounts) != 2 || p.Mounts[0].Target != "/data" || p.Mounts[1].Target != "/data/deep" {
		t.Errorf("volumes of the image: %+v", p.Mounts)
	}
	p = process("-i", "-w", "/w", "-u", "1:2", "--name", "n", "--network", "none", "--read-only", "--privileged", "--init", "--group-add", "7", "--cap-add", "X", "--cap-drop", "Y",
		"--shm-size", "1m", "--ulimit", "nofile=1:2", "--cgroupns", "host", "--cgroup-parent", "/p", "--tmpfs", "/t", "-v", m.Store.Root()+":/data/deep:ro", "--add-host", "h:1.2.3.4")
	if p.Stdin == nil || p.Cwd != "/w" || p.User != "1:2" || p.Hostname != "n" || p.Network != sandbox.NetworkNone || !p.ReadOnlyRoot || !p.Privileged || !p.Init ||
		!slices.Equal(p.Groups, []string{"7"}) || !slices.Equal(p.CapAdd, []string{"X"}) || !slices.Equal(p.CapDrop, []string{"Y"}) || p.ShmSize != 1<<20 ||
		!p.HostCgroupns || p.CgroupParent != "/p" || len(p.Rlimits) != 1 || p.Rlimits[0].Hard != 2 || len(p.ExtraHosts) != 1 {
		t.Errorf("%+v", p)
	}
	var targets []string
	for _, mount := range p.Mounts {
		targets = append(targets, mount.Target)
	}
	if !slices.Equal(targets, []string{"/t", "/data", "/data/deep"}) || !p.Mounts[2].ReadOnly {
		t.Errorf("mounts %q: those below others come after them", targets)
	}
	if p = process("-t", "--hostname", "h"); !p.TTY || p.Hostname != "h" || !slices.Contains(p.Env, "TERM=xterm") {
		t.Errorf("%+v", p)
	}
	host, err := os.Hostname()
	if p = process("--network", "host", "--name", "n"); p.Hostname != host || err != nil {
		t.Errorf("in the host's network the hostname is %q", p.Hostname)
	}
}

// TestVolumes: an anonymous volume has what the image has at its place, unless that is not wanted.
func TestVolumes(t *testing.T) {
	t.Parallel()
	m := commandtest.New(t)
	img := m.Image(nil, map[string]string{"file": "text"})
	p := &sandbox.Process{}
	if err := parse(t, "-v", "/new", "--mount", "dst=/empty,volume-nocopy").addMounts(t.Context(), m.App, img, p, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for i, target := range []string{"/new", "/empty"} {
		mount := p.Mounts[i]
		list, err := os.ReadDir(mount.Source)
		if mount.Target != target || mount.Type != sandbox.MountBind || err != nil || len(list) > 0 {
			t.Errorf("%+v: %v, %v", mount, list, err)
		}
		if info, err := os.Stat(mount.Source); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", target, info.Mode(), err)
		}
	}
}

func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	for name := range refusedFlags {
		value := "x"
		if isBool[name] {
			value = "true"
		}
		err := parse(t, "--"+name+"="+value).check()
		if want := "--" + name + " is not supported" + refusedFlags[name]; commandtest.Text(err) != want {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if isBool[name] {
			if err := parse(t, "--"+name+"=false").check(); err != nil {
				t.Errorf("%s=false: %v", name, err)
			}
		}
	}
	for _, name := range ignoredFlags {
		value := "x"
		if isBool[name] {
			value = "true"
		}
		if err := parse(t, "--"+name+"="+value).check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := parse(t, "-d").check(); err == nil {
		t.Error("-d is accepted")
	}
	if err := parse(t, "--restart", "no", "--isolation", "default", "-l", "a=b").check(); err != nil {
		t.Error(err)
	}
}

// TestHiddenFlags: what has no effect is not in the help.
func TestHiddenFlags(t *testing.T) {
	t.Parallel()
	shown := map[string]bool{}
	NewRunCommand(&command.App{}).Flags().VisitAll(func(f *pflag.Flag) { shown[f.Name] = !f.Hidden })
	for _, name := range append(slices.Clone(ignoredFlags), "detach", "restart", "dns-opt", "net", "pid", "mac-address") {
		if visible, ok := shown[name]; visible || !ok {
			t.Errorf("--%s: shown %t, there %t", name, visible, ok)
		}
	}
	for _, name := range []string{"volume", "network", "memory", "dns", "ipc"} {
		if !shown[name] {
			t.Errorf("--%s is not shown", name)
		}
	}
}

func TestResolver(t *testing.T) {
	t.Parallel()
	f := parse(t, "--dns", "1.1.1.1", "--dns", "::1", "--dns-search", "a.test", "--dns-opt", "ndots:1", "--dns-option", "rotate")
	want := network.Resolver{
		Servers: []netip.Addr{netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("::1")}, Search: []string{"a.test"}, Options: []string{"ndots:1", "rotate"},
	}
	if diff := cmp.Diff(want, f.dns.resolver(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestCIDFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "cid")
	if err := errors.Join(writeCIDFile("", "x"), checkCIDFile(""), checkCIDFile(file), writeCIDFile(file, "0123")); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "0123" {
		t.Errorf("%q, %v", data, err)
	}
	want := "container ID file found, make sure the other container isn't running or delete " + file
	if err := writeCIDFile(file, "4567"); commandtest.Text(err) != want {
		t.Errorf("%v", err)
	}
	if err := checkCIDFile(file); commandtest.Text(err) != want {
		t.Errorf("%v", err)
	}
	if err := writeCIDFile(dir+"/no/cid", "x"); commandtest.Text(err) != "failed to create the container ID file: open "+dir+"/no/cid: no such file or directory" {
		t.Errorf("%v", err)
	}
}

func TestWithTag(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a": "a:latest", "a:1": "a:1", "docker.io/library/a": "a:latest", "h:5000/a": "h:5000/a:latest", "A": "A",
	} {
		if got := withTag(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestPrepareNetwork: ports are of a network of the container's own; without one, mica says so, or fails where ports are needed.
func TestPrepareNetwork(t *testing.T) {
	t.Parallel()
	img, gone := &image.Image{}, errors.New("no pasta")
	for name, c := range map[string]struct {
		args   []string
		of     sandbox.Network
		stderr string
		err    string
	}{
		"the host's":            {args: []string{"-p", "80"}, of: sandbox.NetworkHost, stderr: "WARNING: Published ports are discarded when using host network mode\n"},
		"the host's, no ports":  {of: sandbox.NetworkHost},
		"none":                  {args: []string{"-p", "80"}, of: sandbox.NetworkNone},
		"failed":                {of: sandbox.NetworkOwn, stderr: "WARNING: the container uses the host's network: no pasta\n"},
		"failed, and has ports": {args: []string{"-p", "80"}, of: sandbox.NetworkOwn, err: "publish ports: the container cannot have a network of its own: no pasta"},
	} {
		stderr, said := commandtest.Output(t)
		p := &sandbox.Process{Network: c.of}
		err := parse(t, c.args...).prepareNetwork(t.Context(), &command.App{Stderr: stderr}, img, p)
		if err == nil && p.NetworkMade != nil {
			err = p.NetworkMade(nil, gone)
		}
		if said() != c.stderr || commandtest.Text(err) != c.err {
			t.Errorf("%s: %q, %v, want %q, %q", name, said(), err, c.stderr, c.err)
		}
	}
}

// TestForwardSignals: the process gets the signals of mica; SIGTERM is its stop signal.
func TestForwardSignals(t *testing.T) {
	img := &image.Image{}
	img.Config.Config.StopSignal = "SIGQUIT"
	ctx, signals, done := parse(t, "--stop-timeout", "-1").forwardSignals(t.Context(), img)
	for _, c := range []struct{ sent, want syscall.Signal }{
		{syscall.SIGUSR1, syscall.SIGUSR1}, {syscall.SIGHUP, syscall.SIGHUP}, {syscall.SIGINT, syscall.SIGINT}, {syscall.SIGTERM, syscall.SIGQUIT},
	} {
		if err := syscall.Kill(os.Getpid(), c.sent); err != nil {
			t.Fatal(err)
		}
		if got := <-signals; got != c.want {
			t.Errorf("%v: %v, want %v", c.sent, got, c.want)
		}
	}
	if ctx.Err() != nil {
		t.Error("the process is killed, though it may take any time")
	}
	done()
	<-ctx.Done()

	for _, c := range []struct {
		sent, want syscall.Signal
		flag       string
	}{{syscall.SIGTERM, syscall.SIGKILL, "--tty=false"}, {syscall.SIGHUP, syscall.SIGHUP, "--tty"}} {
		ctx, signals, done = parse(t, "--stop-timeout", "0", "--stop-signal", "KILL", c.flag).forwardSignals(t.Context(), img)
		if err := syscall.Kill(os.Getpid(), c.sent); err != nil {
			t.Fatal(err)
		}
		if got := <-signals; got != c.want {
			t.Errorf("%v: %v, want %v", c.sent, got, c.want)
		}
		<-ctx.Done()
		var exit *ociruntime.ExitError
		if cause := context.Cause(ctx); !errors.As(cause, &exit) || exit.Code != 137 {
			t.Errorf("%v: killed with %v", c.sent, cause)
		}
		done()
	}
	if _, signals, _ := parse(t, "--sig-proxy=false").forwardSignals(t.Context(), img); signals != nil {
		t.Error("signals are forwarded with --sig-proxy=false")
	}
}
