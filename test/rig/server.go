package rig

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// server is a program that runs until it is stopped. It needs no test: one may serve a whole package, from TestMain.
type server struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// startServer starts a program in a process group of its own and waits until ready says so.
func startServer(dir, name string, ready func(context.Context) error, args ...string) (*server, error) {
	return startCommand(dir, exec.Command(name, args...), ready)
}

// startCommand is startServer of a command with an environment.
func startCommand(dir string, cmd *exec.Cmd, ready func(context.Context) error) (*server, error) {
	name := filepath.Base(cmd.Path)
	s := &server{cmd: cmd, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.ended:
			return nil, fmt.Errorf("%s ended: %s\n%s", name, s.cmd.ProcessState, s.tail())
		case <-ctx.Done():
			_ = s.stop()
			return nil, fmt.Errorf("%s did not become ready\n%s", name, s.tail())
		case <-tick.C:
			if ready(ctx) == nil {
				return s, nil
			}
		}
	}
}

func (s *server) tail() string {
	data, _ := os.ReadFile(s.log)
	return string(data[max(0, len(data)-4000):])
}

func (s *server) stop() error {
	if s == nil {
		return nil
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
		return nil
	case <-time.After(20 * time.Second):
		return syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// Pid is the server's process.
func (s *server) Pid() int { return s.cmd.Process.Pid }

// freePort is a port of loopback that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Registry is Debian's docker-registry on loopback.
type Registry struct {
	Addr string // host:port
	*server
}

// StartRegistry starts an empty registry that keeps its files in dir.
func StartRegistry(dir string) (*Registry, error) { return StartRegistryWith(dir, "http", "") }

// StartRegistryWith is StartRegistry with lines added to its configuration, the first of which may go on with its "http".
func StartRegistryWith(dir, scheme, settings string) (*Registry, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	r := &Registry{Addr: fmt.Sprintf("127.0.0.1:%d", port)}
	config := filepath.Join(dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp:\n  addr: %q\n%s",
		filepath.Join(dir, "registry"), r.Addr, settings)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	r.server, err = startServer(dir, "docker-registry", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+r.Addr+"/v2/", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}, "serve", config)
	return r, err
}

// Stop ends the registry.
func (r *Registry) Stop() error { return r.stop() }

// BuildKit is the reference builder.
type BuildKit struct {
	Addr     string // where it listens
	buildctl string
	*server
}

// BuildKitAt is another server that speaks BuildKit's API at addr, for Command alone.
func BuildKitAt(addr string) *BuildKit {
	return &BuildKit{Addr: addr, buildctl: filepath.Join(Top(), "bin", "peers", "buildctl")}
}

// StartBuildKit starts a buildkitd that keeps its files in dir.
func StartBuildKit(dir string) (*BuildKit, error) {
	b := BuildKitAt("unix://" + filepath.Join(dir, "buildkit.sock"))
	var err error
	b.server, err = startServer(dir, filepath.Join(filepath.Dir(b.buildctl), "buildkitd"), func(ctx context.Context) error {
		return exec.CommandContext(ctx, b.buildctl, "--addr", b.Addr, "debug", "workers").Run()
	}, "--root", filepath.Join(dir, "buildkit"), "--addr", b.Addr, "--oci-worker-net", "host", "--containerd-worker=false",
		"--allow-insecure-entitlement", "network.host", "--allow-insecure-entitlement", "security.insecure")
	return b, err
}

// Command is buildctl with args.
func (b *BuildKit) Command(args ...string) *exec.Cmd {
	return exec.Command(b.buildctl, append([]string{"--addr", b.Addr}, args...)...)
}

// Stop ends the daemon.
func (b *BuildKit) Stop() error { return b.stop() }

// Docker is the real Docker Engine.
type Docker struct {
	Host   string   // where it listens, as docker -H takes it
	client string   // docker, if it is not that of Debian
	env    []string // what the client is given beside the caller's
	run    string
	*server
}

// noNetwork makes an engine leave the network of the host alone.
var noNetwork = []string{"--iptables=false", "--ip6tables=false", "--bridge=none"}

// StartDocker starts Debian's dockerd without networks, which keeps its files in dir.
func StartDocker(dir string) (*Docker, error) {
	d := &Docker{Host: "unix://" + filepath.Join(dir, "docker.sock"), run: filepath.Join(dir, "docker-run")}
	return d, d.start(dir, exec.Command("dockerd", noNetwork...))
}

// The stores that Docker 29 has for images.
const (
	// GraphDriver is that of all releases before it, and of hosts that were upgraded. The ID of an image is the digest of its config.
	GraphDriver = "containerd-snapshotter=false"
	// ImageStore is containerd's, which is that of new hosts. The ID of an image is the digest of its index or manifest.
	ImageStore = "containerd-snapshotter=true"
)

// StartDocker29 starts the dockerd that make docker29 builds, with its own client, runc and containerd, and one of its stores.
func StartDocker29(dir, store string) (*Docker, error) {
	d, err := Docker29At("unix://"+filepath.Join(dir, "docker.sock"), dir)
	if err != nil {
		return nil, err
	}
	d.run = filepath.Join(dir, "docker-run")
	args := append([]string{"--feature", store, "--feature", "embedded-containerd"}, noNetwork...)
	cmd := exec.Command(Dockerd29(), args...)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(cmd.Path)+":"+os.Getenv("PATH"))
	return d, d.start(dir, cmd)
}

// Dockerd29 is the engine that make docker29 builds.
func Dockerd29() string { return filepath.Join(Top(), "bin", "docker29", "dockerd") }

// Docker29At is the client of Docker 29 for an engine that listens at host, with a configuration in dir.
func Docker29At(host, dir string) (*Docker, error) {
	d := &Docker{Host: host, client: filepath.Join(Top(), "bin", "clients", "docker")}
	config := filepath.Join(dir, "docker-config")
	d.env = []string{"DOCKER_CONFIG=" + config, "NO_COLOR=1"}
	if err := os.MkdirAll(config, 0o700); err != nil {
		return nil, err
	}
	// The columns that docker images had before, which mica images has.
	text := fmt.Sprintf("{\"cliPluginsExtraDirs\": [%q], \"imagesFormat\": \"table\"}", filepath.Dir(d.client))
	return d, os.WriteFile(filepath.Join(config, "config.json"), []byte(text), 0o600)
}

// start starts a dockerd in dir.
func (d *Docker) start(dir string, cmd *exec.Cmd) error {
	cmd.Args = append(cmd.Args, "--host", d.Host, "--data-root", filepath.Join(dir, "docker"), "--exec-root", d.run, "--pidfile", filepath.Join(dir, "docker.pid"))
	var err error
	d.server, err = startCommand(dir, cmd, func(ctx context.Context) error {
		c := d.Command("version")
		return exec.CommandContext(ctx, c.Path, c.Args[1:]...).Run()
	})
	return err
}

// At is the engine's client for another address.
func (d *Docker) At(host string) *Docker { return &Docker{Host: host, client: d.client, env: d.env} }

// dockerClient is the client of Debian's engine, where another may come first on PATH.
const dockerClient = "/usr/bin/docker"

// Command is docker with args.
func (d *Docker) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(cmp.Or(d.client, dockerClient), append([]string{"-H", d.Host}, args...)...)
	cmd.Env = append(append(os.Environ(), "DOCKER_BUILDKIT=0", "LC_ALL=C.UTF-8"), d.env...)
	return cmd
}

// Try runs docker and gives what came of it.
func (d *Docker) Try(t testing.TB, args ...string) Output {
	t.Helper()
	return Run(t, d.Command(args...))
}

// Run runs docker, which must succeed, and gives its stdout.
func (d *Docker) Run(t testing.TB, args ...string) string {
	t.Helper()
	out := d.Try(t, args...)
	if out.Code != 0 {
		t.Fatalf("docker %v: exit code %d\n%s%s", args, out.Code, out.Stdout, out.Stderr)
	}
	return out.Stdout
}

// Stop ends the engine, and unmounts what it leaves mounted.
func (d *Docker) Stop() error {
	err := d.stop()
	_ = syscall.Unmount(filepath.Join(d.run, "netns", "default"), syscall.MNT_DETACH)
	return err
}
