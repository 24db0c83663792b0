//go:build e2e

package commands

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// hostile sets a terminal's title and its clipboard, clears it, turns text around, is a C1 control as well, and hides characters.
const hostile = "\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x1b[2J\u202e\u2066\u009b31m\u200b\ufeff\u2028"

// wantSafe checks that a terminal was shown nothing of it but as text.
func wantSafe(t *testing.T, shown string) {
	t.Helper()
	for name, sequence := range map[string]string{
		"sets the title": "\x1b]", "clears the screen": "\x1b[2J", "turns text around": "\u202e", "isolates text": "\u2066", "is a C1 control": "\u009b",
		"has no width": "\u200b", "marks the byte order": "\ufeff", "separates lines": "\u2028",
	} {
		if strings.Contains(shown, sequence) {
			t.Errorf("what %s is shown: %q", name, shown)
		}
	}
}

// hostileDockerfile puts it wherever a Dockerfile's author can.
const hostileDockerfile = "FROM base AS evil\n" +
	"LABEL evil=\"" + hostile + "\"\n" +
	"ENV EVIL=\"" + hostile + "\"\n" +
	"RUN echo \"" + hostile + "\" && printf '\\033]0;owned\\007\\033[31mred\\033[0m\\n'\n" +
	"CMD [\"" + "echo " + "evil\"]\n"

// Whoever wrote an image or a Dockerfile does not get at the terminal of whoever looks at it: no command shows it text that
// it obeys, whether it succeeds or fails. A pipe gets the text as it is.
func TestTerminalIsSafe(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{
		"Dockerfile": hostileDockerfile,
		"broken":     hostileDockerfile + "COPY \"missing" + hostile + "\" /\nRUN false " + hostile + "\n",
		"unknown":    "FROM base\nRUN true\n" + hostile + " x\n",
		"fails":      "FROM base\nRUN echo \"" + hostile + "\" && false\n",
	})
	m.Run("build", "-q", "-t", "evil", dir)
	archive := filepath.Join(dir, "archive.tar")
	m.Run("save", "-o", archive, "evil")
	var manifest bytes.Buffer
	manifest.WriteString(`{"not":"` + hostile + `"}`)
	if err := os.WriteFile(filepath.Join(dir, "broken.tar"), manifest.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"history", "evil"},
		{"history", "--no-trunc", "evil"},
		{"history", "--format", "{{.CreatedBy}}", "evil"},
		{"inspect", "evil"},
		{"inspect", "-f", "{{.Config.Labels.evil}} {{.Config.Env}}", "evil"},
		{"images", "--tree"},
		{"images", "--format", "{{.Repository}} {{\"" + `\x1b]0;owned\x07` + "\"}}"},
		{"images", "--filter", "label=" + hostile},
		{"tag", "evil", hostile},
		{"load", "-i", archive},
		{"load", "-i", filepath.Join(dir, "broken.tar")},
		{"build", "--no-cache", "--progress", "plain", dir},
		{"build", "--no-cache", "--progress", "tty", dir},
		{"build", "--no-cache", "--progress", "rawjson", dir},
		{"build", "--progress", "plain", "-f", filepath.Join(dir, "broken"), dir},
		{"build", "--progress", "tty", "-f", filepath.Join(dir, "broken"), dir},
		{"build", "-f", filepath.Join(dir, "unknown"), dir},
		{"build", "--no-cache", "--progress", "plain", "-f", filepath.Join(dir, "fails"), dir},
		{"build", "--no-cache", "--progress", "tty", "-f", filepath.Join(dir, "fails"), dir},
		{"build", "--build-arg", hostile, "--target", hostile, dir},
		{"build", "--call", "outline", dir},
		{"run", hostile},
		{"run", "evil", hostile},
		{"manifest", "inspect", "localhost:1/" + hostile},
		{hostile},
		{"images", "--" + hostile},
	} {
		t.Run(strings.ToValidUTF8(strings.Join(args[:min(2, len(args))], " "), "?"), func(t *testing.T) {
			shown, _ := rig.OnTerminal(t, m.Command(args...))
			wantSafe(t, shown)
		})
	}
	if got := m.Run("inspect", "-f", "{{.Config.Labels.evil}}", "evil"); got != hostile+"\n" {
		t.Errorf("a pipe gets %q", got)
	}
	shown, _ := rig.OnTerminal(t, m.Command("build", "--no-cache", "--progress", "plain", dir))
	if !strings.Contains(shown, "\x1b[31mred\x1b[0m") || !strings.Contains(shown, `\x1b]0;owned`) {
		t.Errorf("colours of a step, and what it must not do: %q", shown)
	}
}

// hostileRegistry is one that answers with hostile text wherever it can, and says no.
func hostileRegistry(t *testing.T) string {
	t.Helper()
	encode := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	refusal := func(code string) string {
		return encode(map[string]any{"errors": []any{map[string]any{"code": code, "message": "no: " + hostile, "detail": hostile}}})
	}
	answers := []struct {
		path   string
		status int
		body   string
	}{
		{"/v2/_catalog", 200, encode(map[string]any{"repositories": []string{"x" + hostile}})},
		{"/v2/x/tags/list", 200, encode(map[string]any{"name": "x", "tags": []string{"1" + hostile, hostile}})},
		{"/v2/x/", 200, encode(map[string]any{"mediaType": hostile, "config": map[string]any{"digest": hostile}, "layers": []any{}})},
		{"/v2/denied/", 403, refusal("DENIED")},
		{"/v2/unknown/", 404, refusal("NAME" + hostile)},
		{"/v2/html/", 404, "<html><title>" + hostile + "</title>"},
		{"/v2/text/", 400, hostile},
		{"/v2/login/", 401, refusal("UNAUTHORIZED")},
		{"/v2/", 200, "{}"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, _, ok := r.BasicAuth(); ok && user == "nobody" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, refusal("UNAUTHORIZED"))
			return
		}
		for _, a := range answers {
			if strings.HasPrefix(r.URL.Path, a.path) {
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				w.WriteHeader(a.status)
				_, _ = io.WriteString(w, a.body)
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// Neither does who runs a registry.
func TestTerminalIsSafeFromRegistries(t *testing.T) {
	m := newMica(t)
	host := hostileRegistry(t)
	commands := [][]string{{"catalog", host}, {"tags", host + "/x"}, {"login", "-u", "nobody", "-p", "pw", host}}
	for _, name := range []string{"x", "denied", "unknown", "html", "text", "login"} {
		ref := host + "/" + name + ":1"
		m.Run("tag", "base", ref)
		commands = append(commands, []string{"push", ref}, []string{"pull", ref}, []string{"manifest", "inspect", ref}, []string{"tags", host + "/" + name},
			[]string{"copy", ref, host + "/copied:1"}, []string{"manifest", "create", host + "/list:1", ref},
			[]string{"build", "--pull", "--progress", "tty", directory(t, map[string]string{"Dockerfile": "FROM " + ref + "\n"})},
			[]string{"build", "--pull", "--progress", "plain", directory(t, map[string]string{"Dockerfile": "FROM " + ref + "\n"})})
	}
	escaped := 0
	for _, args := range commands {
		t.Run(strings.ReplaceAll(strings.Join(args[:2], " "), host, ""), func(t *testing.T) {
			cmd := m.Command(args...)
			cmd.Env = append(cmd.Environ(), "DOCKER_CONFIG="+t.TempDir())
			shown, _ := rig.OnTerminal(t, cmd)
			wantSafe(t, shown)
			if strings.Contains(shown, `\x1b]0;owned`) {
				escaped++
			}
		})
	}
	if escaped < 15 {
		t.Errorf("%d commands show what the registry says: the others test nothing", escaped)
	}
}

// What cannot be written is an error.
func TestOutputThatCannotBeWritten(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": "# what it is\nARG X=1\nFROM base AS out\n", "docker-bake.hcl": "target \"default\" {}\n"})
	for _, args := range [][]string{
		{"--help"}, {"version"}, {"version", "-f", "json"}, {"info"}, {"info", "-f", "{{.}}"}, {"images"}, {"images", "--tree"}, {"images", "-q"}, {"history", "base"},
		{"inspect", "base"}, {"inspect", "-f", "{{.Id}}", "base"}, {"system", "df"}, {"system", "df", "-v"}, {"save", "base"}, {"export", "base"},
		{"build", "-q", dir}, {"build", "-o", "type=tar", dir}, {"build", "--call", "outline", dir}, {"bake", "--print", "-f", filepath.Join(dir, "docker-bake.hcl")},
		{"bake", "--list", "targets", "-f", filepath.Join(dir, "docker-bake.hcl")},
		{"completion", "bash"}, {"builder", "prune", "-f"}, {"image", "prune", "-f"}, {"rmi", "base"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = full.Close() }()
			cmd := m.Command(args...)
			var stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = full, &stderr
			if err := cmd.Run(); err == nil || !strings.Contains(stderr.String(), "no space left on device") {
				t.Errorf("%v, %s", err, stderr.String())
			}
		})
	}
}
