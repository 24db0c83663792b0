//go:build e2e

package guide

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestTutorial types the commands of docs/tutorial.md, as an ordinary user, and compares what they print. The base image is one
// that debootstrap made, the registry one on loopback.
func TestTutorial(t *testing.T) {
	m := rig.AsUser(t, "mica-tutorial", true)
	importDebian(t, m)
	typePage(t, m, "tutorial.md", "")
}

// TestComingFrom types the commands of docs/coming-from.md. All of them must succeed.
func TestComingFrom(t *testing.T) {
	m := rig.AsUser(t, "mica-coming", true)
	importDebian(t, m)
	typePage(t, m, "coming-from.md", `mkdir app
printf 'FROM debian:bookworm-slim\nARG VERSION\nRUN echo $VERSION >/version\nCOPY . /app/\nCMD ["cat", "/version"]\n' >app/Dockerfile
printf 'target "default" {\n  tags = ["app"]\n}\n' >app/docker-bake.hcl
`)
}

// typePage types the commands of a page into a shell of mica's user, after those of prepare.
func typePage(t *testing.T, m *rig.Mica, page, prepare string) {
	t.Helper()
	steps := readPage(t, filepath.Join(rig.Top(), "docs", page))
	registry, err := rig.StartRegistry(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = registry.Stop() }()
	place := strings.NewReplacer("registry.example.com", registry.Addr, "8080", freePort(t))

	var script strings.Builder
	home := filepath.Dir(m.Path)
	fmt.Fprintf(&script, "export HOME=%s PATH=%[1]s:$PATH NO_COLOR=1 LC_ALL=C.UTF-8\ncd\n%s", home, prepare)
	for _, s := range steps {
		fmt.Fprintf(&script, "%s\necho '%s'$?\n", place.Replace(s.command), mark)
	}
	cmd := exec.Command(m.Prefix[0], append(m.Prefix[1:], "bash", "-c", "exec bash 2>&1")...)
	cmd.Stdin = strings.NewReader(script.String())
	out := rig.Run(t, cmd)
	outputs := strings.Split(out.Stdout, mark)
	code := ""
	for i, s := range steps {
		if i+1 >= len(outputs) {
			t.Fatalf("the shell ended at %q:\n%s", s.command, out.Stdout)
		}
		printed := strings.TrimPrefix(outputs[i], code)
		code = outputs[i+1][:strings.Index(outputs[i+1], "\n")+1]
		if code != "0\n" {
			t.Errorf("$ %s\nexit code %s%s", s.command, code, printed)
		} else if !s.matches(printed, place) {
			t.Errorf("$ %s\nprinted:\n%s\nthe page shows:\n%s", s.command, printed, s.output)
		}
	}
}

// mark ends what one command printed. The command's exit code follows.
const mark = "=== end of a command: "

// step is one command of a page, with what it prints.
type step struct{ command, output string }

// readPage returns the commands of a page: the blocks that are marked "console", in which "$ " begins a command and "> "
// continues it.
func readPage(t *testing.T, page string) []step {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(data), -1) {
		for line := range strings.Lines(block[1]) {
			last := len(steps) - 1
			switch prompt, text := line[:min(2, len(line))], line[min(2, len(line)):]; prompt {
			case "$ ":
				steps = append(steps, step{command: strings.TrimSuffix(text, "\n")})
			case "> ":
				steps[last].command += "\n" + strings.TrimSuffix(text, "\n")
			default:
				steps[last].output += line
			}
		}
	}
	if len(steps) == 0 {
		t.Fatalf("%s has no commands", page)
	}
	return steps
}

// matches reports whether a command printed what the page shows: … stands for any text, and alone for any lines.
func (s step) matches(printed string, place *strings.Replacer) bool {
	if s.output == "" {
		return true
	}
	var pattern strings.Builder
	for line := range strings.Lines(place.Replace(s.output)) {
		if line == "…\n" {
			pattern.WriteString(`(?s:.*\n|)`)
			continue
		}
		// Columns are as wide as what is in them.
		fields := strings.Fields(line)
		for i, f := range fields {
			fields[i] = strings.ReplaceAll(regexp.QuoteMeta(f), "…", `.*`)
		}
		pattern.WriteString(strings.Join(fields, " *") + " *\n")
	}
	return regexp.MustCompile(`\A` + pattern.String() + `\z`).MatchString(printed)
}

func importDebian(t *testing.T, m *rig.Mica) {
	t.Helper()
	tar := filepath.Join(rig.Top(), "bin", "demo", "debian.tar")
	rig.Must(t, filepath.Join(rig.Top(), "scripts", "debian-base"), tar)
	f, err := os.Open(tar)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	m.RunIn(f, "import", "--change", `CMD ["bash"]`, "-", "debian:bookworm-slim")
}

// freePort returns a port of the host that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(rig.Must(t, "python3", "-c", "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"))
}
