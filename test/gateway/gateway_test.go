//go:build e2e

// Package gateway tests front ends in images: one of ours, which behaves as its option says, and BuildKit's own.
package gateway

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/test/rig"
)

// program builds the program in ./frontend.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "mica-test-frontend-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "frontend")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./frontend")
	cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	return path, cmd.Run()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

const labels = "LABEL moby.buildkit.frontend.caps=moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests\n"

// addImage makes an image of a program, whose second argument finds its processes.
func addImage(t *testing.T, m *rig.Mica, name, path, more string) (mark string) {
	t.Helper()
	mark = rand.Text()
	dir := directory(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY --chmod=755 program /program\n" + more + "ENTRYPOINT [\"/program\", \"" + mark + "\"]\n"})
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "program"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // for ordinary users
		t.Fatal(err)
	}
	m.Run("build", "-q", "-t", name, dir)
	return mark
}

// start is mica with an image me/fe.
func start(t *testing.T, m *rig.Mica, more string) (mark string) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return addImage(t, m, "me/fe", path, more)
}

func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := rig.TempDir(t)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// with is a context whose front end has a behaviour.
func with(t *testing.T, behaviour string) string {
	t.Helper()
	dir := directory(t, map[string]string{"Dockerfile": "# syntax=me/fe " + behaviour + "\nFROM scratch\nCOPY f /dockerfile\n", "f": "text"})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files are those of a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range list {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(data)
	}
	return all
}

// running reports whether a process with an argument runs.
func running(t *testing.T, mark string) bool {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		if data, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(data), "/program\x00"+mark) {
			return true
		}
	}
	return false
}

// TestResults: what a front end answers is the result of the build, of mica's own command, of bake and of a server's client.
func TestResults(t *testing.T) {
	m := rig.NewMica(t)
	mark := start(t, m, labels)
	for behaviour, want := range map[string]map[string]string{
		"copy": {"copied": "text", "upper": "TEXT"}, "forward": {"dockerfile": "text"}, "inputs": {"input": "from the outer front end"}, "flood": {"flooded": ""},
		"process": {"process": "hello"}, "children": {"children": "one"}, "failed-step": {"left": "no"},
	} {
		dir, out := with(t, behaviour), filepath.Join(rig.TempDir(t), "out")
		built := m.Try(nil, "build", "--progress", "plain", "-o", out, dir)
		if built.Code != 0 {
			t.Errorf("%s: %s", behaviour, built.Stderr)
			continue
		}
		if diff := cmp.Diff(want, files(t, out)); diff != "" {
			t.Errorf("%s: %s", behaviour, diff)
		}
		if n := len(built.Stderr); n > 5<<20 {
			t.Errorf("%s: %d bytes of progress", behaviour, n)
		}
		if behaviour == "copy" && !strings.Contains(built.Stderr, " read 4 bytes\n") {
			t.Errorf("the log is not shown:\n%s", built.Stderr)
		}
	}
	out := filepath.Join(rig.TempDir(t), "out")
	bake := m.Command("bake", "-f", "-", "--set", "default.output=type=local,dest="+out)
	bake.Dir, bake.Stdin = with(t, "copy"), strings.NewReader(`target "default" { }`)
	if done := rig.Run(t, bake); done.Code != 0 || files(t, out)["upper"] != "TEXT" {
		t.Errorf("bake: %s", done.Stderr)
	}
	if running(t, mark) {
		t.Error("a front end is left")
	}
	ran := m.Run("builds", "ls", "--format", "{{.Status}}")
	if want := strings.Repeat("Completed\n", 9); ran != want { // with that of the image
		t.Errorf("builds:\n%s", ran)
	}
	m.Run("why", m.Run("builds", "ls", "-q")[:8])
}

// TestErrors: a front end that does not answer ends the build with an error, and with its processes.
func TestErrors(t *testing.T) {
	m := rig.NewMica(t)
	mark := start(t, m, labels)
	for behaviour, want := range map[string]string{
		"fail":    "Dockerfile:1: failed to solve: this front end fails always",
		"die":     `process "/program" did not complete successfully: exit code: 3`,
		"exit":    "it ended without a result",
		"garbage": "it broke the connection on its standard input and output",
		"again":   "a build runs at most 16 front ends at once",
		"unknown": `exit code: 2`,

		"privileged":   "security.insecure is not allowed",
		"host-network": "network.host is not allowed",

		"privileged-process":   "security.insecure is not allowed",
		"host-network-process": "network.host is not allowed",

		"warnings":   "the front end has asked for more than a build can keep",
		"containers": "the front end has 64 containers: release some",

		"elsewhere": `no local source is called "/etc"`,
		"cache":     "a front end cannot import the build cache /etc",
	} {
		out := m.Try(nil, "build", "--progress", "plain", with(t, behaviour))
		if out.Code != 1 || !strings.Contains(out.Stderr, want) || !strings.Contains(out.Stderr, "   1 | >>> # syntax=me/fe "+behaviour) {
			t.Errorf("%s: exit code %d\n%s", behaviour, out.Code, out.Stderr)
		}
	}
	cmd := m.Command("build", "--progress", "plain", with(t, "hang"))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.HasSuffix(lines.Text(), " hanging") {
		continue
	}
	if !running(t, mark) {
		t.Error("no front end runs")
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	for lines.Scan() {
		continue
	}
	if err := cmd.Wait(); err == nil {
		t.Error("a build that was interrupted succeeds")
	}
	if running(t, mark) {
		t.Error("a front end is left")
	}
}

// TestEnvironment: a front end sees its options, a read-only root and no network, as root's and an ordinary user's.
func TestEnvironment(t *testing.T) {
	for name, m := range map[string]*rig.Mica{"root": rig.NewMica(t), "rootless": rig.AsUser(t, "micagateway", true)} {
		start(t, m, labels+"LABEL moby.buildkit.frontend.network.none=true\n")
		m.Env = append(m.Env, "SECRET=hidden")
		out := filepath.Join(filepath.Dir(m.Root), "out") // where its user may write
		m.Run("build", "-q", "-o", out, "--build-arg", "A=1 2", with(t, "environment"))
		report := files(t, out)["report"]
		want := "BUILDKIT_FRONTEND_OPT_0=build-arg:A=1 2\nBUILDKIT_FRONTEND_OPT_1=cmdline=me/fe environment\n"
		if !strings.Contains(report, want) || strings.Contains(report, "hidden") {
			t.Errorf("%s: the environment is\n%s", name, report)
		}
		if want := "root: <nil>\nwrite: open /file: read-only file system\ntmp: <nil>\ngraph: true\ndevices: 1\n"; !strings.Contains(report, want) {
			t.Errorf("%s: the process sees\n%s", name, report)
		}
	}
}

// TestProvenance: the image of the front end is a material of the build, which names the front end.
func TestProvenance(t *testing.T) {
	m := rig.NewMica(t)
	start(t, m, labels)
	metadata := filepath.Join(rig.TempDir(t), "metadata")
	m.Run("build", "-q", "--provenance", "mode=max", "--metadata-file", metadata, with(t, "copy"))
	data, err := os.ReadFile(metadata)
	if err != nil {
		t.Fatal(err)
	}
	var meta struct {
		Provenance struct {
			Invocation struct {
				Parameters struct {
					Frontend string
					Args     map[string]string
				}
			}
			Materials []struct{ URI string }
		} `json:"buildx.build.provenance"`
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		t.Fatal(err)
	}
	p := meta.Provenance
	if args := p.Invocation.Parameters; args.Frontend != "gateway.v0" || args.Args["source"] != "me/fe" {
		t.Errorf("parameters %+v", args)
	}
	if len(p.Materials) == 0 || !strings.HasPrefix(p.Materials[0].URI, "pkg:docker/me/fe@latest") {
		t.Errorf("materials %+v", p.Materials)
	}
}

// dockerfiles are compiled by the front end that is built in and by its image.
var dockerfiles = map[string]string{
	"stages":   "FROM base AS a\nARG V=1\nENV V=$V\nRUN echo $V >/v\nFROM base\nCOPY --from=a /v /\nCOPY --chown=5:6 f* /d/\nWORKDIR /d\nCMD [\"sh\"]\n",
	"heredoc":  "FROM base\nRUN <<EOT\necho one >/1\necho two >/2\nEOT\nCOPY <<-\"E\" /text\n\t$HOME\nE\n",
	"mounts":   "FROM base\nRUN --mount=type=bind,target=/c --mount=type=cache,target=/k --mount=type=tmpfs,target=/t cp /c/f /f && touch /k/x /t/x\n",
	"scratch":  "FROM scratch\nLABEL a=b\nEXPOSE 80\nVOLUME /v\nHEALTHCHECK CMD x\nONBUILD RUN y\n",
	"trigger":  "FROM base\nUSER dev\nSHELL [\"sh\", \"-ec\"]\nRUN id -un >/tmp/who\nENTRYPOINT exec top\n",
	"failure":  "FROM base\nRUN exit 3\n",
	"unknown":  "FROM base\nNONSENSE\n",
	"no file":  "FROM base\nCOPY missing /\n",
	"contexts": "FROM other\nCOPY --from=extra f /extra\n",
}

// TestDockerfileFrontend: BuildKit's front end in an image makes the same image as the one that is built in, and fails with the same errors.
func TestDockerfileFrontend(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	addImage(t, m, "me/compiler:1", rig.Binary(t, "peers/dockerfile-frontend"),
		"LABEL moby.buildkit.frontend.network.none=true moby.buildkit.frontend.caps=moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts\n")
	for name, text := range dockerfiles {
		dir := directory(t, map[string]string{"Dockerfile": "# syntax=docker/dockerfile:1\n" + text, "f": "f", "f2": "2", ".dockerignore": "f2\n"})
		build := func(args ...string) (string, string) {
			all := []string{
				"build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--build-arg", "V=2", "--label", "l=1", "--build-context", "other=docker-image://base",
				"--build-context", "extra=" + dir,
			}
			out := m.Try(nil, append(append(all, args...), dir)...)
			_, message, _ := strings.Cut(out.Stderr, "failed to solve: ")
			return strings.TrimSpace(out.Stdout), message
		}
		id, message := build()
		other, otherMessage := build("--build-arg", "BUILDKIT_SYNTAX=me/compiler:1")
		if id != other || message != otherMessage || (id == "") == (message == "") {
			t.Errorf("%s: %s %s\nin an image: %s %s", name, id, message, other, otherMessage)
		}
	}
	dir := directory(t, map[string]string{"Dockerfile": "# syntax=me/compiler:1\nfrom base\nUSER 1\n"})
	if out := m.Try(nil, "build", "--call", "check", dir); !strings.Contains(out.Stdout, "ConsistentInstructionCasing") {
		t.Errorf("--call check: %s%s", out.Stdout, out.Stderr)
	}
	if out := m.Try(nil, "build", "--shell-at", "3", "--invoke", "true", dir); !strings.Contains(out.Stderr, "front end me/compiler:1: only Dockerfiles of the built-in front end") {
		t.Errorf("--invoke: %s%s", out.Stdout, out.Stderr)
	}
}

// TestSocket: gateway.v0 by BuildKit's API, with the log and the errors of the front end.
func TestSocket(t *testing.T) {
	m := rig.NewMica(t)
	mark := start(t, m, labels)
	build := func(behaviour string, opts ...string) rig.Output {
		dir := with(t, behaviour)
		args := []string{
			"serve", "--", rig.Binary(t, "peers/buildctl"), "build", "--progress", "plain", "--frontend", "gateway.v0", "--opt", "source=me/fe", "--opt", "cmdline=me/fe " + behaviour,
			"--local", "context=" + dir, "--local", "dockerfile=" + dir,
		}
		return rig.Run(t, m.Command(append(args, opts...)...))
	}
	out := filepath.Join(rig.TempDir(t), "out")
	if done := build("copy", "--output", "type=local,dest="+out); done.Code != 0 || files(t, out)["upper"] != "TEXT" || !strings.Contains(done.Stderr, " read 4 bytes\n") {
		t.Errorf("copy: %s", done.Stderr)
	}
	for behaviour, want := range map[string]string{"fail": "this front end fails always", "die": "exit code: 3"} {
		if done := build(behaviour); done.Code == 0 || !strings.Contains(done.Stderr, want) {
			t.Errorf("%s: %s", behaviour, done.Stderr)
		}
	}
	if done := build("copy", "--opt", "gateway-devel=true"); !strings.Contains(done.Stderr, "development gateway is no longer supported") {
		t.Errorf("gateway-devel: %s", done.Stderr)
	}
	if done := build("copy", "--opt", "frontend.caps=moby.buildkit.frontend.contexts"); !strings.Contains(done.Stderr, "unsupported frontend capability moby.buildkit.frontend.contexts") {
		t.Errorf("capabilities: %s", done.Stderr)
	}
	if running(t, mark) {
		t.Error("a front end is left")
	}
}
