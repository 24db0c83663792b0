//go:build e2e

// Command bench measures mica beside its peers in one run on one machine: the reference BuildKit, the Docker Engine, Buildah
// and crane. It needs root. Times are medians of 5 runs after a warm-up, mica and the peers taking turns; ratios are what
// counts.
//
//	go run -tags e2e ./test/bench [-runs 5] [-only REGEXP]
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/micabuild/mica/test/rig"
)

var (
	runs = flag.Int("runs", 5, "runs of each work, after one that warms up")
	only = flag.String("only", "", "measure the works whose names match this regular expression")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	dir, err := os.MkdirTemp("", "mica-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := newBench(dir)
	defer func() { err = errors.Join(err, b.close()) }()
	if err != nil {
		return err
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	fmt.Printf("| work | mica | BuildKit %s | Docker %s | Buildah %s | crane | mica / best |\n|---|---|---|---|---|---|---|\n",
		b.buildkitVersion, b.dockerVersion, field(exec.Command("buildah", "--version"), 2))
	for _, w := range b.works() {
		if w.before != nil && wanted.MatchString(w.name) {
			if err := w.before(); err != nil {
				return fmt.Errorf("prepare %s: %w", w.name, err)
			}
		}
		if !wanted.MatchString(w.name) {
			continue
		}
		if err := b.measure(w); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	fmt.Println("\n| peak memory of | MB |\n|---|---|")
	for _, who := range []string{"mica", "buildkitd", "dockerd"} {
		fmt.Printf("| %s | %d |\n", who, b.peak[who]>>20)
	}
	return nil
}

// bench is the peers and where their files are.
type bench struct {
	dir, mica, store               string
	buildkit                       *rig.BuildKit
	docker                         *rig.Docker
	registry                       *rig.Registry
	buildkitVersion, dockerVersion string
	peak                           map[string]int64 // bytes, by program
	round                          int
	buildahStore                   string
	sinkServer                     *rig.Registry
}

// work is one thing that is measured. Each function prepares a command for one run; nil where the peer has none.
type work struct {
	name                                   string
	before                                 func() error // once, before the first run
	mica, buildkit, docker, buildah, crane func() *exec.Cmd
}

func newBench(dir string) (*bench, error) {
	b := &bench{dir: dir, mica: filepath.Join(rig.Top(), "bin", "mica"), store: filepath.Join(dir, "store"), peak: map[string]int64{}}
	var err error
	if b.registry, err = rig.StartRegistry(dir); err != nil {
		return b, err
	}
	if b.buildkit, err = rig.StartBuildKit(dir); err != nil {
		return b, err
	}
	if b.docker, err = rig.StartDocker(dir); err != nil {
		return b, err
	}
	b.buildkitVersion = field(b.buildkit.Command("--version"), 2)
	b.dockerVersion = field(b.docker.Command("version", "-f", "{{.Server.Version}}"), 0)
	b.buildahStore = filepath.Join(dir, "buildah")
	if err := contexts(dir); err != nil {
		return b, err
	}
	return b, b.images()
}

func field(cmd *exec.Cmd, n int) string {
	out, _ := cmd.Output()
	if f := strings.Fields(string(out)); n < len(f) {
		return f[n]
	}
	return "?"
}

func (b *bench) close() error {
	var errs []error
	if b.docker != nil {
		errs = append(errs, b.docker.Stop())
	}
	if b.buildkit != nil {
		errs = append(errs, b.buildkit.Stop())
	}
	for _, r := range []*rig.Registry{b.registry, b.sinkServer} {
		if r != nil {
			errs = append(errs, r.Stop())
		}
	}
	return errors.Join(errs...)
}

// images gives all three the small base and the walk-through's Python base.
func (b *bench) images() error {
	small, err := rig.BusyboxTar(b.dir)
	if err != nil {
		return err
	}
	debian := filepath.Join(rig.Top(), "bin", "demo", "debian.tar")
	python := filepath.Join(b.dir, "python-base")
	script := `set -e
"$TOP/scripts/debian-base" "$DEBIAN"
"$MICA" import -c 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' "$SMALL" base
"$MICA" import "$DEBIAN" debian:bookworm-slim
cp -r "$TOP/demo/python-base" "$PYTHON"; cp /etc/ssl/certs/ca-certificates.crt "$PYTHON"
# The peers have no --host-certs.
printf 'COPY ca-certificates.crt /etc/ssl/certs/\nENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt\n' >>"$PYTHON/Dockerfile"
"$MICA" build -q -t python:3.9-slim "$PYTHON"
"$MICA" save -o "$DIR/bases.tar" base python:3.9-slim
docker -H "$DOCKER" load -q -i "$DIR/bases.tar"
for i in base python:3.9-slim; do
	skopeo copy -q --dest-tls-verify=false "docker-archive:$DIR/bases.tar:docker.io/library/$(case $i in *:*) echo $i;; *) echo $i:latest;; esac)" "docker://$REGISTRY/$i"
done
`
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), "TOP="+rig.Top(), "DEBIAN="+debian, "SMALL="+small, "PYTHON="+python, "DIR="+b.dir, "MICA="+b.mica,
		"MICA_ROOT="+b.store, "DOCKER="+b.docker.Host, "REGISTRY="+b.registry.Addr)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// works lists what is measured.
func (b *bench) works() []work {
	python := filepath.Join(rig.Top(), "demo", "python")
	steps := filepath.Join(b.dir, "steps")
	dockerfile := "FROM base\nARG ROUND\nRUN echo $ROUND\n" + strings.Repeat("RUN echo x\n", 19)
	_ = os.MkdirAll(steps, 0o755)
	_ = os.WriteFile(filepath.Join(steps, "Dockerfile"), []byte(dockerfile), 0o600)
	listing := func() *exec.Cmd { return b.micaCommand("images") }
	works := []work{
		{
			name:     "rebuild of the guide's Python image, all cached",
			mica:     func() *exec.Cmd { return b.micaCommand("build", "-q", "-t", "hello", python) },
			buildkit: func() *exec.Cmd { return b.buildkitCommand(python, "python:3.9-slim") },
			docker:   func() *exec.Cmd { return b.docker.Command("build", "--network", "host", "-q", "-t", "hello", python) },
		},
		{
			name:     "cold build, 20 RUN steps of echo",
			mica:     func() *exec.Cmd { return b.micaCommand("build", "-q", "-t", "steps", "--build-arg", b.fresh(), steps) },
			buildkit: func() *exec.Cmd { return b.buildkitCommand(steps, "base", "--opt", "build-arg:"+b.fresh()) },
			docker: func() *exec.Cmd {
				return b.docker.Command("build", "--network", "host", "-q", "-t", "steps", "--build-arg", b.fresh(), steps)
			},
		},
		{name: "images, 200 tags", mica: b.tagged(listing), docker: func() *exec.Cmd { return b.docker.Command("images") }},
		b.both("history", "history", "hello"), b.both("inspect", "inspect", "hello"), b.both("tag", "tag", "hello", "again"),
		{name: "version", mica: func() *exec.Cmd { return b.micaCommand("version") }},
	}
	works = append(works, b.transfers("big", "1 GiB in 8 files")...)
	return append(works, b.transfers("many", "50,000 files (200 MB)")...)
}

// both is a command that mica and Docker have alike.
func (b *bench) both(name string, args ...string) work {
	return work{
		name: name, mica: func() *exec.Cmd { return b.micaCommand(args...) }, docker: func() *exec.Cmd { return b.docker.Command(args...) },
	}
}

// fresh is a build argument that no build has had.
func (b *bench) fresh() string {
	b.round++
	return fmt.Sprintf("ROUND=%d-%d", os.Getpid(), b.round)
}

// tagged gives mica and Docker 200 tags before the first run.
func (b *bench) tagged(next func() *exec.Cmd) func() *exec.Cmd {
	done := false
	return func() *exec.Cmd {
		for i := 0; !done && i < 200; i++ {
			name := fmt.Sprintf("many/image-%d:v%d", i%20, i)
			_ = b.micaCommand("tag", "base", name).Run()
			_ = b.docker.Command("tag", "base", name).Run()
		}
		done = true
		return next()
	}
}

func (b *bench) micaCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(b.mica, args...)
	cmd.Env = append(os.Environ(), "MICA_ROOT="+b.store)
	return cmd
}

func (b *bench) buildkitCommand(dir, base string, more ...string) *exec.Cmd {
	args := []string{
		"build", "--frontend", "dockerfile.v0", "--local", "context=" + dir, "--local", "dockerfile=" + dir,
		"--opt", "context:" + base + "=docker-image://" + b.registry.Addr + "/" + base,
	}
	return b.buildkit.Command(append(args, more...)...)
}

// measure runs a work in all three, taking turns, and prints a row.
func (b *bench) measure(w work) error {
	who := []func() *exec.Cmd{w.mica, w.buildkit, w.docker, w.buildah, w.crane}
	times := make([][]time.Duration, len(who))
	for i := range *runs + 1 {
		for j, command := range who {
			if command == nil {
				continue
			}
			d, err := b.time(command())
			if err != nil {
				return err
			}
			if i > 0 { // the first warms up
				times[j] = append(times[j], d)
			}
		}
	}
	cells := make([]string, len(who))
	best := time.Duration(0)
	for j, t := range times {
		if len(t) == 0 {
			cells[j] = "-"
			continue
		}
		slices.Sort(t)
		m := t[len(t)/2]
		cells[j] = fmt.Sprintf("%.1f ms", float64(m.Microseconds())/1000)
		if j > 0 && (best == 0 || m < best) {
			best = m
		}
	}
	ratio := "-"
	if best > 0 {
		ratio = fmt.Sprintf("%.2f", float64(times[0][len(times[0])/2])/float64(best))
	}
	fmt.Printf("| %s | %s | %s |\n", w.name, strings.Join(cells, " | "), ratio)
	b.remember()
	return nil
}

func (b *bench) time(cmd *exec.Cmd) (time.Duration, error) {
	began := time.Now()
	out, err := cmd.CombinedOutput()
	d := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	if cmd.Path == b.mica {
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			b.peak["mica"] = max(b.peak["mica"], u.Maxrss<<10)
		}
	}
	return d, nil
}

// remember notes the daemons' peak memory (VmHWM).
func (b *bench) remember() {
	for name, pid := range map[string]int{"buildkitd": b.buildkit.Pid(), "dockerd": b.docker.Pid()} {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(data)) {
			var kb int64
			if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
				b.peak[name] = max(b.peak[name], kb<<10)
			}
		}
	}
}
