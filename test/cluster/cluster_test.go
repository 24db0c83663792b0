//go:build cluster

// Package cluster proves mica build --on kubernetes on a Kubernetes of one node, which it starts.
package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/micabuild/mica/test/cluster/plane"
	"github.com/micabuild/mica/test/rig"
)

// shared is what all tests use.
var shared struct {
	*kubernetes
	registry string // host:port, which pods reach
	image    string // mica's own
	base     string // an archive of the base image
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "mica-cluster-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // root of a pod with ids of its own is another user here
		return 1, err
	}
	if shared.kubernetes, err = startKubernetes(dir); err != nil {
		return 1, err
	}
	defer shared.stop()
	stop, err := startRegistry(dir)
	if err != nil {
		return 1, err
	}
	defer stop()
	if err := loadImages(dir); err != nil {
		return 1, err
	}
	for _, level := range []string{"restricted", "baseline"} {
		script := fmt.Sprintf("%[1]s --kubeconfig %[2]s create namespace %[3]s && %[1]s --kubeconfig %[2]s label namespace %[3]s pod-security.kubernetes.io/enforce=%[3]s", plane.Program("kubectl"), shared.Kubeconfig, level)
		if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
			return 1, fmt.Errorf("%w\n%s", err, out)
		}
	}
	return m.Run(), nil
}

// startRegistry starts a registry at the address of the node.
func startRegistry(dir string) (stop func(), err error) {
	l, err := net.Listen("tcp", shared.IP+":0")
	if err != nil {
		return nil, err
	}
	shared.registry = l.Addr().String()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: %q}\n", dir, shared.registry)
	path := filepath.Join(dir, "registry.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	cmd := exec.Command("docker-registry", "serve", path)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}, nil
}

// loadImages gives containerd mica's own image, as the release has it, and that of the container that holds a pod.
func loadImages(dir string) error {
	mica := func(args ...string) ([]byte, error) {
		cmd := exec.Command(filepath.Join(rig.Top(), "bin", "mica"), append([]string{"--root", filepath.Join(dir, "images")}, args...)...)
		cmd.Stderr = os.Stderr
		return cmd.Output()
	}
	if _, err := mica("load", "-i", filepath.Join(rig.Top(), "bin", "dist", "mica-image.tar")); err != nil {
		return fmt.Errorf("%w: run the test by make cluster-test", err)
	}
	names, err := mica("images", "--format", "{{.Repository}}:{{.Tag}}")
	if err != nil {
		return err
	}
	context := filepath.Join(dir, "pause")
	if err := os.Mkdir(context, 0o755); err != nil {
		return err
	}
	data, err := os.ReadFile(plane.Program("pause"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(context, "pause"), data, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte("FROM scratch\nCOPY pause /pause\nENTRYPOINT [\"/pause\"]\n"), 0o644); err != nil {
		return err
	}
	if _, err := mica("build", "-q", "-t", "docker.io/library/pause:1", context); err != nil {
		return err
	}
	tar, err := rig.BusyboxTar(dir)
	if err != nil {
		return err
	}
	if _, err := mica("import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", tar, "base"); err != nil {
		return err
	}
	shared.base = filepath.Join(dir, "base.tar")
	if _, err := mica("save", "-o", shared.base, "base"); err != nil {
		return err
	}
	shared.image = "docker.io/library/" + strings.Fields(string(names))[0]
	for _, name := range []string{shared.image, "docker.io/library/pause:1"} {
		archive := filepath.Join(dir, "image.tar")
		if _, err := mica("save", "-o", archive, name); err != nil {
			return err
		}
		if err := shared.ctr("images", "import", archive); err != nil {
			return err
		}
	}
	return nil
}

// on is the value of --on, with more keys.
func on(more ...string) string {
	return strings.Join(append([]string{"kubernetes", "image=" + shared.image, "repo=" + shared.registry + "/layers", "registry.insecure=true"}, more...), ",")
}

// client is a mica with a base image.
func client(t *testing.T) *rig.Mica {
	t.Helper()
	m := rig.NewMica(t)
	m.Env = append(m.Env, "KUBECONFIG="+shared.Kubeconfig, "SOURCE_DATE_EPOCH=1700000000")
	m.Run("load", "-q", "-i", shared.base)
	return m
}

func contextOf(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := rig.TempDir(t)
	for name, text := range map[string]string{"Dockerfile": dockerfile, "a.txt": "a\n", "secret": "swordfish-and-more"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const steps = `FROM base AS made
COPY a.txt /work/
WORKDIR /work
RUN rm a.txt && ln -s /etc/passwd link && mkdir -m 1777 tmp && echo v >v && chown 7:8 v && chmod 4711 v && ln link hard
RUN --mount=type=secret,id=s cat /run/secrets/s | wc -c >length && rmdir tmp
RUN --mount=type=bind,from=base,target=/from --mount=type=cache,target=/cache ls /from/bin/sh >listed && echo x >/cache/x
USER 1000:1000
RUN id -u >/tmp/me
FROM base
COPY --from=made /work /work
COPY --from=made /tmp/me /
RUN cat /me >/copied
`

// built is the digest of what a build makes.
func built(t *testing.T, m *rig.Mica, dir string, args ...string) string {
	t.Helper()
	out := filepath.Join(rig.TempDir(t), "layout")
	m.Run(append([]string{
		"build", "--progress", "plain", "--secret", "id=s,src=" + filepath.Join(dir, "secret"), "-o", "type=oci,tar=false,rewrite-timestamp=true,compression=gzip,force-compression=true,dest=" + out,
	}, append(args, dir)...)...)
	raw, err := os.ReadFile(filepath.Join(out, "index.json"))
	var index struct{ Manifests []struct{ Digest string } }
	if err == nil {
		err = json.Unmarshal(raw, &index)
	}
	if err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%v %s", err, raw)
	}
	return index.Manifests[0].Digest
}

// jobs are the Jobs that there are, by name.
func jobs(t *testing.T) string {
	t.Helper()
	out := rig.Run(t, shared.Kubectl("get", "jobs,pods", "-A", "-o", "name"))
	return out.Stdout
}

// TestSameImage: steps in pods with each isolation give the image of this host, byte for byte, and nothing is left.
func TestSameImage(t *testing.T) {
	dir := contextOf(t, steps)
	here := built(t, client(t), dir)
	for _, more := range [][]string{{"namespace=restricted"}, {"namespace=baseline", "isolation=oci"}, {"namespace=baseline", "isolation=chroot"}} {
		t.Run(strings.Join(more, ","), func(t *testing.T) {
			if there := built(t, client(t), dir, "--on", on(more...)); there != here {
				t.Errorf("%s is built, here %s", there, here)
			}
			rig.Eventually(t, "Jobs and pods are removed", func() bool { return jobs(t) == "" })
		})
	}
}

// TestCached: a build that is cached needs no cluster.
func TestCached(t *testing.T) {
	m, dir := client(t), contextOf(t, steps)
	cache := "type=registry,mode=steps,registry.insecure=true,ref=" + shared.registry + "/cache"
	args := []string{"--on", on(), "--cache-from", cache, "--cache-to", cache}
	want := built(t, m, dir, args...)
	m.Run("builder", "prune", "-af")
	m.Env = append(m.Env, "KUBECONFIG=/nowhere")
	if got := built(t, m, dir, args...); got != want {
		t.Errorf("%s is built from the cache, before %s", got, want)
	}
}

// TestPodLost: a step whose pod is deleted begins again in another one.
func TestPodLost(t *testing.T) {
	m := client(t)
	dir := contextOf(t, "FROM base\nRUN echo begun; i=0; while [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); done; touch /ended\n")
	cmd := m.Command("build", "--progress", "plain", "--on", on("isolation=chroot"), "-t", "x", dir)
	shown := follow(t, cmd)
	shown.until("begun\n")
	rig.Must(t, plane.Program("kubectl"), "--kubeconfig", shared.Kubeconfig, "delete", "pod", "--all", "--force", "--grace-period=0")
	shown.until("the step begins again")
	shown.until("begun\n")
	if err := shown.end(); err != nil {
		t.Fatal(err, shown.text.String())
	}
	m.Run("run", "--rm", "x", "ls", "/ended")
}

// TestInterrupted: an interrupted command leaves neither Job nor pod, and one that is killed leaves them for a short time.
func TestInterrupted(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		m := client(t)
		dir := contextOf(t, "FROM base\nRUN echo begun; sleep 100000\n")
		cmd := m.Command("build", "--progress", "plain", "--on", on("isolation=chroot"), dir)
		shown := follow(t, cmd)
		shown.until("begun\n")
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if shown.end() == nil {
			t.Errorf("%s: the build has succeeded", sig)
		}
		deadline := time.Now().Add(5 * time.Minute) // the server's minute and the cluster's, and what they are late
		for jobs(t) != "" {
			if time.Now().After(deadline) {
				t.Fatalf("%s: there are %s", sig, jobs(t))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// TestManyBuilds: of builds at once that share a cache, one runs a step.
func TestManyBuilds(t *testing.T) {
	dir := contextOf(t, "FROM base\nRUN head -c 16 /dev/urandom | md5sum >/made\n")
	cache := "type=registry,mode=steps,registry.insecure=true,ref=" + shared.registry + "/many"
	made := make([]string, 10)
	var all sync.WaitGroup
	for i := range made {
		m := client(t)
		all.Go(func() {
			out := rig.Run(t, m.Command("build", "-q", "--on", on("isolation=chroot"), "--cache-from", cache, "--cache-to", cache, "-t", "x", dir))
			if out.Code != 0 {
				t.Error(out.Stderr)
				return
			}
			made[i] = rig.Run(t, m.Command("run", "--rm", "x", "cat", "/made")).Stdout
		})
	}
	all.Wait()
	for _, got := range made {
		if got == "" || got != made[0] {
			t.Fatalf("the builds have %q", made)
		}
	}
}

// shown is what a command shows.
type shown struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *os.File
	text strings.Builder
	seen int
}

// follow starts a command.
func follow(t *testing.T, cmd *exec.Cmd) *shown {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() { _ = r.Close() })
	return &shown{t: t, cmd: cmd, out: r}
}

// until waits for a text after the one that it has waited for before.
func (s *shown) until(text string) {
	s.t.Helper()
	buf := make([]byte, 4096)
	for {
		if i := strings.Index(s.text.String()[s.seen:], text); i >= 0 {
			s.seen += i + len(text)
			return
		}
		n, err := s.out.Read(buf)
		s.text.Write(buf[:n])
		if err != nil {
			s.t.Fatalf("no %q in\n%s", text, s.text.String())
		}
	}
}

// end waits for the end of the command.
func (s *shown) end() error {
	buf := make([]byte, 4096)
	for {
		n, err := s.out.Read(buf)
		s.text.Write(buf[:n])
		if err != nil {
			return s.cmd.Wait()
		}
	}
}
