//go:build e2e

// Package browser uses mica ui in Debian's Chromium, as people do.
package browser

import (
	"bufio"
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/micabuild/mica/test/browser/chrome"
)

// hostile is what a browser must show as text: were it markup, a script of it would run, or a request would go out.
const hostile = `<img src=x onerror=document.title=1>`

// mica is bin/mica with a store of its own.
type mica struct {
	t     *testing.T
	store string
}

func (m *mica) command(args ...string) *exec.Cmd {
	m.t.Helper()
	top, err := filepath.Abs("../..")
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.CommandContext(m.t.Context(), filepath.Join(top, "bin", "mica"), args...)
	cmd.Env = append(os.Environ(), "MICA_ROOT="+m.store)
	return cmd
}

func (m *mica) run(args ...string) string {
	m.t.Helper()
	cmd := m.command(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("mica %q: %v\n%s", args, err, &stderr)
	}
	return string(out)
}

// context makes the directory of a build from a static busybox.
func context(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	busybox, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "busybox"), busybox, 0o755)
	}
	for name, text := range files {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

const dockerfile = `FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
FROM base
ARG VERSION=1
COPY data /data/
RUN mkdir -p /deep/er && echo $VERSION > /deep/er/version && echo made $VERSION
RUN echo removed > /removed && touch '/` + hostile + `'
RUN rm /removed && echo '` + hostile + `'
ENV API_TOKEN=hunter2
CMD ["sh"]
`

// serve starts mica ui, and returns the URL that it prints.
func serve(m *mica) string {
	m.t.Helper()
	cmd := m.command("ui")
	cmd.Cancel = func() error { return nil } // the test ends it below
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		m.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		m.t.Fatalf("no URL: %v\n%s", err, &stderr)
	}
	m.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 0 || stderr.Len() > 0 {
			m.t.Errorf("mica ui ended with %v\n%s", err, &stderr)
		}
	})
	return strings.TrimSpace(line)
}

// lab is a store with two builds of an image, a failed one, and a browser that shows it.
func lab(t *testing.T) (*mica, *chrome.Tab) {
	t.Helper()
	m := &mica{t, filepath.Join(t.TempDir(), "store")}
	dir := context(t, map[string]string{"Dockerfile": dockerfile, "data": "one\n", "Bad": "FROM app\nRUN echo before && false\n"})
	m.run("build", "-q", "-t", "app:1", dir)
	if err := os.WriteFile(filepath.Join(dir, "data"), []byte("two\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.run("build", "-q", "-t", "app", "--build-arg", "VERSION="+hostile, "--label", "release=2", dir)
	if err := m.command("build", "-q", "-f", filepath.Join(dir, "Bad"), dir).Run(); err == nil {
		t.Fatal("a step that fails did not fail")
	}
	tab, end, err := chrome.Open(t.Context(), serve(m))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	return m, tab
}

// must fails the test on an error, and on what went wrong on the page since the last call.
func must(t *testing.T, tab *chrome.Tab, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tab.Problems() {
		t.Error(p)
	}
}

// keys presses keys, one after the other.
func keys(t *testing.T, tab *chrome.Tab, list ...string) {
	t.Helper()
	for _, k := range list {
		must(t, tab, tab.Press(k))
	}
}

// TestBrowser goes through all that mica ui shows. Its parts share a browser and a store.
func TestBrowser(t *testing.T) {
	m, tab := lab(t)
	t.Run("views", func(t *testing.T) { everyView(t, m, tab) })
	t.Run("keyboard", func(t *testing.T) { byKeyboard(t, tab) })
	t.Run("themes", func(t *testing.T) { themes(t, tab) })
	t.Run("running", func(t *testing.T) { running(t, m, tab) })
	t.Run("prune", func(t *testing.T) { pruneByPage(t, m, tab) })
}

// everyView: each view, light and dark, wide and narrow, can be read, and shows what it is for. Names that are markup are text.
func everyView(t *testing.T, m *mica, tab *chrome.Tab) {
	refs := strings.Fields(m.run("builds", "ls", "-q"))
	failed, second := refs[0], refs[1]
	archive := filepath.Join(t.TempDir(), "image.tar")
	m.run("save", "-o", archive, "app:1")
	views := []struct{ hash, texts string }{
		{"#/images", "app:latest|app:1|linux/amd64"},
		{"#/images?q=nothing", "0 of 2 images"},
		{"#/image/app/layers", "COPY data /data/|Dockerfile|Selected layer|" + hostile},
		{"#/image/app/files", "bin/|deep/|busybox|" + hostile},
		{"#/image/app/files?layer=4", "removed"},
		{"#/image/app/sizes", "busybox|By layer"},
		{"#/image/app/sizes?by=layer", "All layers|1: COPY busybox"},
		{"#/image/app/analysis", "Efficiency|Wasted paths|Findings|secret"},
		{"#/image/app/config", "API_TOKEN=(hidden)|Environment"},
		{"#/builds", "Failed|Completed"},
		{"#/build/" + second, "Completed|because data changed|build argument VERSION|" + hostile},
		{"#/build/" + failed, "Failed|exit code: 1|before"},
		{"#/compare", "Choose two images"},
		{"#/compare/app:1/app", "Configuration|release|/data/data|Added"},
		{"#/compare/app/app", "No difference"},
		{"#/cache", "Build Cache|Prune…|RUN rm /removed"},
		{"#/image/.%2Fnothing", "no such file or directory"},
		{"#/image/" + url.PathEscape(archive) + "/files", "an archive|bin/|busybox"},
		{"#/compare/" + url.PathEscape(archive) + "/app", "Configuration|/data/data"},
		{"#/build/nothing", "no such build: nothing"},
		{"#/nowhere", "there is no such page"},
	}
	for _, look := range []struct {
		width  int
		scheme string
	}{{1280, "light"}, {1280, "dark"}, {360, "light"}, {360, "dark"}} {
		must(t, tab, tab.Look(look.width, 800, look.scheme))
		for _, v := range views {
			name := fmt.Sprintf("%s, %d wide, %s", v.hash, look.width, look.scheme)
			if err := tab.Go(v.hash); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, text := range strings.Split(v.texts, "|") {
				if err := tab.Wait(fmt.Sprintf("document.body.textContent.includes(%q)", text)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			wrong, err := tab.Check()
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range wrong {
				if !strings.HasPrefix(w, "headings: 0") || !strings.Contains(v.hash, "no") {
					t.Errorf("%s: %s", name, w)
				}
			}
			expectFailedRequests(t, tab, name, strings.HasSuffix(v.hash, "nothing"))
		}
	}
	if n, err := chrome.Value[int](tab, `document.querySelectorAll("img").length`); n != 0 || err != nil {
		t.Errorf("%d pictures, %v", n, err)
	}
}

// expectFailedRequests: nothing went wrong, but for one request for what does not exist.
func expectFailedRequests(t *testing.T, tab *chrome.Tab, name string, expected bool) {
	t.Helper()
	for _, p := range tab.Problems() {
		if !expected || !strings.Contains(p, "404") {
			t.Errorf("%s: %s", name, p)
		}
	}
}

// focused is an expression for the text of what has the focus.
const focused = `(document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent)`

// byKeyboard: all can be reached and used without a mouse.
func byKeyboard(t *testing.T, tab *chrome.Tab) {
	must(t, tab, tab.Look(1280, 800, "light"))
	must(t, tab, tab.Go("#/images"))
	must(t, tab, chrome.Run(tab, `document.activeElement.blur(); document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute("tabindex")`))
	keys(t, tab, kb.Tab)
	must(t, tab, tab.Wait(focused+` === "Skip to content"`))
	keys(t, tab, kb.Enter)
	must(t, tab, tab.Wait(`document.activeElement.id === "main"`))
	keys(t, tab, kb.Tab, kb.Tab, kb.Tab, kb.Tab) // the two fields and the button
	must(t, tab, tab.Wait(`document.activeElement.matches("a.name")`))
	keys(t, tab, kb.Enter)
	must(t, tab, tab.Wait(`document.querySelector("h1")?.textContent.startsWith("app:")`))

	// Another image, by its name.
	must(t, tab, tab.Go("#/images"))
	must(t, tab, chrome.Run(tab, `{ const e = document.querySelector("[aria-label='Open another image']"); e.value = "dir:/etc/apt"; e.focus() }`))
	keys(t, tab, kb.Enter)
	must(t, tab, tab.Wait(`document.querySelector("h1")?.textContent === "dir:/etc/apt"`))
	must(t, tab, tab.Go("#/image/app"))

	// The layers: arrow keys select.
	must(t, tab, chrome.Run(tab, `document.querySelector(".layers button").focus()`))
	keys(t, tab, kb.ArrowDown, kb.ArrowDown)
	must(t, tab, tab.Wait(`document.activeElement.getAttribute("aria-pressed") === "true" && document.activeElement === document.querySelectorAll(".layers button")[2]`))

	// The tree of files: arrow keys move, open and close.
	must(t, tab, tab.Go("#/image/app/files"))
	must(t, tab, chrome.Run(tab, `document.querySelector("[role=row][tabindex='0']").focus()`))
	keys(t, tab, kb.End, kb.Home)
	row := func(name string) string { return fmt.Sprintf(`document.activeElement.file?.name === %q`, name) }
	must(t, tab, tab.Wait(`document.activeElement === document.querySelector("[role=row][tabindex]")`))
	for range 10 {
		if at, err := chrome.Value[bool](tab, row("deep")); err != nil || at {
			must(t, tab, err)
			break
		}
		keys(t, tab, kb.ArrowDown)
	}
	keys(t, tab, kb.ArrowRight)
	must(t, tab, tab.Wait(`document.activeElement.getAttribute("aria-expanded") === "true" && document.activeElement.nextElementSibling.file?.name === "er"`))
	keys(t, tab, kb.ArrowRight)
	must(t, tab, tab.Wait(row("er")))
	keys(t, tab, kb.ArrowLeft)
	must(t, tab, tab.Wait(row("deep")))
	keys(t, tab, kb.ArrowLeft)
	must(t, tab, tab.Wait(`document.activeElement.getAttribute("aria-expanded") === "false"`))

	// The treemap: Enter zooms in, Backspace out.
	must(t, tab, tab.Go("#/image/app/sizes"))
	must(t, tab, tab.Wait(`document.querySelector(".map button")`))
	must(t, tab, chrome.Run(tab, `document.querySelector(".map button").focus()`))
	keys(t, tab, kb.Enter)
	must(t, tab, tab.Wait(`document.querySelector("nav[aria-label=Place]").textContent.includes("bin")`))
	must(t, tab, tab.Wait(`document.activeElement.matches(".map button")`))
	keys(t, tab, kb.Backspace)
	must(t, tab, tab.Wait(`!document.querySelector("nav[aria-label=Place]").textContent.includes("bin")`))

	// The text of a file that differs.
	must(t, tab, tab.Go("#/compare/app:1/app"))
	must(t, tab, chrome.Run(tab, `document.querySelector("[aria-label='Text of /data/data']").focus()`))
	keys(t, tab, kb.Enter)
	must(t, tab, tab.Wait(`document.querySelector(".diff")?.textContent.includes("+two")`))

	// A step of a build: Enter opens it.
	must(t, tab, tab.Go("#/builds"))
	must(t, tab, chrome.Run(tab, `document.querySelectorAll("a.name")[1].focus()`))
	keys(t, tab, kb.Enter)
	must(t, tab, tab.Wait(`document.querySelector(".gantt button")`))
	must(t, tab, chrome.Run(tab, `[...document.querySelectorAll(".gantt button")].find((b) => b.textContent.includes("COPY data")).focus()`))
	keys(t, tab, kb.Enter)
	must(t, tab, tab.Wait(`document.activeElement.getAttribute("aria-expanded") === "true" && document.querySelector(".gantt .detail").textContent.includes("Why it ran")`))
	wrong, err := tab.Check()
	if err != nil || len(wrong) > 0 {
		t.Errorf("%q, %v", wrong, err)
	}
}

// themes: the button goes through the themes, and the choice stays.
func themes(t *testing.T, tab *chrome.Tab) {
	background := `getComputedStyle(document.body).backgroundColor`
	must(t, tab, tab.Look(1280, 800, "light"))
	light, err := chrome.Value[string](tab, background)
	must(t, tab, err)
	for _, want := range []string{"Theme: light", "Theme: dark", "Theme: as the system"} {
		must(t, tab, chrome.Run(tab, `document.getElementById("theme").click()`))
		must(t, tab, tab.Wait(fmt.Sprintf(`document.getElementById("theme").getAttribute("aria-label") === %q && (%s === %q) === (%q !== "Theme: dark")`, want, background, light, want)))
	}
	must(t, tab, chrome.Run(tab, `document.getElementById("theme").click(); location.reload()`))
	must(t, tab, tab.Wait(`document.getElementById("theme")?.title === "Theme: light"`))
	must(t, tab, chrome.Run(tab, `localStorage.clear(); location.reload()`))
	must(t, tab, tab.Wait(`document.getElementById("theme")?.title === "Theme: as the system"`))
}

// running: a build appears in the list while it runs; its page follows its steps and output to the end.
func running(t *testing.T, m *mica, tab *chrome.Tab) {
	must(t, tab, tab.Go("#/builds"))
	dir := context(t, map[string]string{
		"Dockerfile": "FROM app\nRUN --mount=type=cache,target=/cache echo it begins; until [ -e /cache/go ]; do sleep 0.05; done\nRUN echo it ends\n",
	})
	cmd := m.command("build", "-q", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	must(t, tab, tab.Wait(`document.querySelector("tbody .s-run")`))
	must(t, tab, chrome.Run(tab, `document.querySelector("tbody .s-run").closest("tr").click()`))
	must(t, tab, tab.Wait(`document.querySelector(".log")?.textContent.includes("it begins") && document.querySelector(".st-running")`))
	must(t, tab, tab.Wait(`document.querySelector(".meta .s-run")`))
	wrong, err := tab.Check()
	if err != nil || len(wrong) > 0 {
		t.Errorf("%q, %v", wrong, err)
	}
	mounts, err := filepath.Glob(filepath.Join(m.store, "mounts", "*", "data"))
	if err != nil || len(mounts) != 1 {
		t.Fatalf("%q, %v", mounts, err)
	}
	if err := os.WriteFile(filepath.Join(mounts[0], "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, tab, tab.Wait(`document.querySelector(".meta .s-good") && document.querySelector("section:last-child .log").textContent.includes("it ends") && !document.querySelector(".st-running")`))
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// pruneByPage: nothing is pruned without a yes; with one, the cache is what mica builder prune leaves.
func pruneByPage(t *testing.T, m *mica, tab *chrome.Tab) {
	must(t, tab, tab.Go("#/cache"))
	before := m.run("system", "df")
	press := func(text string) string {
		return fmt.Sprintf(`[...document.querySelectorAll("button")].find((b) => b.textContent === %q && b.closest("dialog, main")).click()`, text)
	}
	must(t, tab, chrome.Run(tab, `document.querySelector("main input[type=checkbox]").click()`))
	must(t, tab, tab.Wait(`document.querySelector(".command").textContent === "mica builder prune --all"`))
	must(t, tab, chrome.Run(tab, press("Prune…")))
	must(t, tab, tab.Wait(`document.querySelector("dialog[open]") && document.activeElement.textContent === "Cancel"`))
	wrong, err := tab.Check()
	if err != nil || len(wrong) > 0 {
		t.Errorf("%q, %v", wrong, err)
	}
	keys(t, tab, kb.Enter)
	must(t, tab, tab.Wait(`!document.querySelector("dialog")`))
	if now := m.run("system", "df"); now != before {
		t.Errorf("it was pruned without a yes:\n%s", now)
	}
	must(t, tab, chrome.Run(tab, press("Prune…")))
	must(t, tab, tab.Wait(`document.querySelector("dialog[open]")`))
	must(t, tab, chrome.Run(tab, press("Prune")))
	must(t, tab, tab.Wait(`document.querySelector(".notice")?.textContent.includes("Total reclaimed space:")`))
	if now := m.run("builder", "prune", "-af"); !strings.Contains(now, "Total reclaimed space: 0B") {
		t.Errorf("the page left: %s", now)
	}
}
