//go:build e2e

// Package dist tests what `make dist` writes: packages are installed, binaries run, and the whole is made a second time.
package dist

import (
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// artifact returns the path of a file of the release.
func artifact(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(rig.Top(), "bin", "dist", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run the tests by make", err)
	}
	return path
}

// version returns what a binary reports as its version.
func version(t *testing.T, command ...string) string {
	t.Helper()
	return strings.TrimSpace(rig.Must(t, command[0], append(command[1:], "version", "-f", "{{.Client.Version}}")...))
}

// released returns the version of the release.
func released(t *testing.T) string {
	t.Helper()
	return version(t, artifact(t, "mica-linux-amd64"))
}

// copyTree returns a clone of the project with what is not committed yet. Its files are readable by their owner alone.
func copyTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(rig.TempDir(t), "another directory")
	rig.Must(t, "sh", "-euc", `
		umask 077
		git clone -q --shared "$1" "$2"
		cd "$1"
		git diff --binary HEAD >"$2.diff"
		[ ! -s "$2.diff" ] || git -C "$2" apply "$2.diff"
		git ls-files -z --others --exclude-standard | tar --null -T - -cf - | tar -C "$2" -xf -`, "sh", rig.Top(), dir)
	return dir
}

// TestReproducible makes the release again, in another directory and with other settings of the user.
func TestReproducible(t *testing.T) {
	t.Parallel()
	dir := copyTree(t)
	cmd := exec.Command("make", "dist")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "GOFLAGS=-tags=other -buildvcs=false")
	if out := rig.Run(t, cmd); out.Code != 0 {
		t.Fatalf("make dist: exit code %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	first := rig.Must(t, "cat", artifact(t, "SHA256SUMS"))
	second := rig.Must(t, "cat", filepath.Join(dir, "bin", "dist", "SHA256SUMS"))
	if first != second {
		t.Errorf("made twice:\n%s\nand\n%s", first, second)
	}
}

func TestChecksums(t *testing.T) {
	sums := artifact(t, "SHA256SUMS")
	entries, err := os.ReadDir(filepath.Dir(sums))
	if err != nil {
		t.Fatal(err)
	}
	listed := rig.Must(t, "sh", "-c", `cd "$(dirname "$1")" && sha256sum --strict -c SHA256SUMS`, "sh", sums)
	if got := strings.Count(listed, ": OK\n"); got != len(entries)-1 {
		t.Errorf("%d checksums of %d files", got, len(entries)-1)
	}
}

// TestDeb installs the package as docs/installation.md says.
func TestDeb(t *testing.T) {
	t.Parallel()
	tree := debian(t)
	if got := rig.Must(t, "dpkg-deb", "-f", artifact(t, "mica-linux-amd64.deb"), "Recommends"); got != "crun, uidmap, passt, ca-certificates\n" {
		t.Errorf("recommends %q", got)
	}
	follow(t, tree, "Debian and Ubuntu")
	if got := rig.Must(t, "chroot", tree, "dpkg", "--verify", "mica"); got != "" {
		t.Errorf("dpkg --verify: %s", got)
	}
	if got := version(t, "chroot", tree, "mica"); got != released(t) {
		t.Errorf("version %q, not %q", got, released(t))
	}
	t.Run("manual", func(t *testing.T) { readsManual(t, filepath.Join(tree, "usr", "share", "man", "man1")) })
	t.Run("completions", func(t *testing.T) { completes(t, tree, "usr", "share/zsh/vendor-completions") })
	hasUnits(t, filepath.Join(tree, "usr/lib/systemd"))

	rig.Must(t, "chroot", tree, "dpkg", "--purge", "mica")
	if got := rig.Must(t, "find", tree, "-mindepth", "1", "(", "-path", filepath.Join(tree, "root"), "-o", "-path", filepath.Join(tree, "dist"), ")", "-prune", "-o", "-name", "*mica*", "-print"); got != "" {
		t.Errorf("left behind by its removal:\n%s", got)
	}
}

// TestRpm installs the package by rpm alone: what it needs is not in a Debian tree.
func TestRpm(t *testing.T) {
	t.Parallel()
	tree, rpm := rig.TempDir(t), artifact(t, "mica-linux-amd64.rpm")
	if got := rig.Must(t, "rpm", "-qp", "--recommends", rpm); got != "crun\nshadow-utils\npasst\nca-certificates\n" {
		t.Errorf("recommends %q", got)
	}
	for name, arch := range map[string]string{"amd64": "x86_64", "arm64": "aarch64"} {
		if got := rig.Must(t, "rpm", "-qp", "--queryformat", "%{name} %{arch} %{license}", artifact(t, "mica-linux-"+name+".rpm")); got != "mica "+arch+" Apache-2.0" {
			t.Errorf("the package for %s is %q", name, got)
		}
	}
	rig.Must(t, "rpm", "--root", tree, "--nodeps", "-i", rpm)
	rig.Must(t, "rpm", "--root", tree, "--nodeps", "-V", "mica")
	if got := version(t, filepath.Join(tree, "usr", "bin", "mica")); got != released(t) {
		t.Errorf("version %q, not %q", got, released(t))
	}
	completes(t, tree, "usr", "share/zsh/site-functions")
	hasUnits(t, filepath.Join(tree, "usr/lib/systemd"))
}

// TestBinary installs the archive as docs/installation.md says, and checks that it holds what the packages install.
func TestBinary(t *testing.T) {
	t.Parallel()
	tree := debian(t)
	before := rig.Must(t, "stat", "-c", "%a %U %G", filepath.Join(tree, "usr/local/share"))
	follow(t, tree, "Binary")
	local := filepath.Join(tree, "usr", "local")
	if got := version(t, "chroot", tree, "mica"); got != released(t) {
		t.Errorf("version %q, not %q", got, released(t))
	}
	rig.Must(t, "cmp", filepath.Join(local, "bin", "mica"), artifact(t, "mica-linux-amd64"))
	for _, file := range []string{"man/man1/mica-build.1.gz", "doc/mica/copyright"} {
		if info, err := os.Stat(filepath.Join(local, "share", file)); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	if after := rig.Must(t, "stat", "-c", "%a %U %G", filepath.Join(local, "share")); after != before {
		t.Errorf("/usr/local/share was %s and is %s", before, after)
	}
	completes(t, tree, "usr/local", "share/zsh/site-functions")
	hasUnits(t, filepath.Join(local, "lib/systemd"))

	// A file that is not what the checksums say is not installed.
	rig.Must(t, "sh", "-c", `echo >>"$1"`, "sh", filepath.Join(tree, "dist", "mica-linux-amd64.tar.gz"))
	cmd := exec.Command("chroot", tree, "sh", "-euc", "cd /root\n"+commands(t, "Binary"))
	if out := rig.Run(t, cmd); out.Code == 0 || !strings.Contains(out.Stdout, "mica-linux-amd64.tar.gz: FAILED") {
		t.Errorf("a changed archive: exit code %d, printed %q", out.Code, out.Stdout)
	}
}

// hasUnits checks that the managers of the host and of users have the units that test/vm starts.
func hasUnits(t *testing.T, dir string) {
	t.Helper()
	for _, manager := range []string{"system", "user"} {
		for _, unit := range []string{"mica.socket", "mica.service"} {
			rig.Must(t, "cmp", filepath.Join(rig.Top(), "packaging/systemd", unit), filepath.Join(dir, manager, unit))
		}
	}
}

// debianBase is held while the archive that Debian trees are made from is made or read.
var debianBase sync.Mutex

// debian returns a minimal Debian tree.
func debian(t *testing.T) string {
	t.Helper()
	base, tree := filepath.Join(rig.Top(), "bin", "demo", "debian.tar"), rig.TempDir(t)
	debianBase.Lock()
	defer debianBase.Unlock()
	rig.Must(t, filepath.Join(rig.Top(), "scripts", "debian-base"), base)
	rig.Must(t, "tar", "-C", tree, "--numeric-owner", "-xf", base)
	return tree
}

// follow runs the commands of a section of docs/installation.md in a Debian tree, as root. There curl downloads the release
// from bin/dist.
func follow(t *testing.T, tree, section string) {
	t.Helper()
	rig.Must(t, "cp", "-r", filepath.Dir(artifact(t, "SHA256SUMS")), filepath.Join(tree, "dist"))
	for name, script := range map[string]string{
		"sudo": `exec "$@"`,
		"curl": `[ "$1" = -fLO ] && [ "${2%/*}" = https://github.com/micabuild/mica/releases/latest/download ] && cp "/dist/${2##*/}" .`,
	} {
		if err := os.WriteFile(filepath.Join(tree, "usr/bin", name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	rig.Must(t, "chroot", tree, "sh", "-euc", "cd /root\n"+commands(t, section))
}

// commands returns the commands of a section of docs/installation.md.
func commands(t *testing.T, section string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(rig.Top(), "docs", "installation.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "\n## "+section+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var blocks strings.Builder
	for _, m := range regexp.MustCompile("(?s)\n```sh\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks.WriteString(m[1])
	}
	if blocks.Len() == 0 {
		t.Fatalf("docs/installation.md has no commands in %q", section)
	}
	return blocks.String()
}

// readsManual checks that every command has a page in a directory, and that groff finds no fault with the pages.
func readsManual(t *testing.T, dir string) {
	mica := artifact(t, "mica-linux-amd64")
	for _, command := range []string{"", "build", "image", "image ls", "builder prune", "manifest create", "system df"} {
		page := strings.ReplaceAll(strings.TrimSpace("mica "+command), " ", "-")
		text := rig.Must(t, "sh", "-c", `zcat "$1" | groff -man -Tascii -P-cbou`, "sh", filepath.Join(dir, page+".1.gz"))
		help := rig.Must(t, mica, append(strings.Fields(command), "--help")...)
		for _, line := range strings.Split(help, "\n") {
			words := strings.Fields(strings.TrimSpace(line))
			if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "--") }); i == 0 || i == 1 {
				if !strings.Contains(text, words[i]) {
					t.Errorf("%s(1) lacks %s", page, words[i])
				}
			}
		}
	}
	lint := exec.Command("sh", "-euc", `for page in "$1"/mica*; do zcat "$page" | groff -man -ww -z; done`, "sh", dir)
	if out := rig.Run(t, lint); out.Code != 0 || out.Stderr != "" {
		t.Errorf("groff: exit code %d\n%s", out.Code, out.Stderr)
	}
}

// completes checks that the shells find the completions below a prefix in a tree, and complete a command's name.
func completes(t *testing.T, tree, prefix, zsh string) {
	t.Helper()
	dir := filepath.Join(tree, prefix)
	path := "PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH")
	for _, c := range []struct {
		shell []string
		want  string
	}{
		{[]string{"bash", "-c", `. /usr/share/bash-completion/bash_completion
			. "$1/share/bash-completion/completions/mica"
			COMP_WORDS=(mica imp) COMP_CWORD=1 COMP_LINE="mica imp" COMP_POINT=8 COMP_TYPE=9
			__start_mica
			echo $COMPREPLY`, "bash", dir}, "import"},
		{[]string{"fish", "-c", `source $argv[1]/share/fish/vendor_completions.d/mica.fish
			complete -C "mica imp"`, dir}, "import\tImport"},
		{[]string{"zsh", "-fc", `fpath=("$1/` + zsh + `" $fpath)
			autoload -Uz compinit && compinit -D -u
			echo $_comps[mica] && autoload +X _mica`, "zsh", dir}, "_mica"},
	} {
		cmd := exec.Command(c.shell[0], c.shell[1:]...)
		cmd.Env = append(os.Environ(), path, "HOME="+rig.TempDir(t))
		if out := rig.Run(t, cmd); out.Code != 0 || !strings.HasPrefix(out.Stdout, c.want) {
			t.Errorf("%s: exit code %d, printed %q, want %q\n%s", c.shell[0], out.Code, out.Stdout, c.want, out.Stderr)
		}
	}
}

func TestBillOfMaterials(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		binary := artifact(t, "mica-linux-"+arch)
		data, err := os.ReadFile(binary + ".spdx.json")
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Packages []struct{ Name, VersionInfo string }
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		if len(doc.Packages) != len(info.Deps)+2 || len(info.Deps) < 50 {
			t.Errorf("%s: %d packages, %d modules", arch, len(doc.Packages), len(info.Deps))
		}
		if p := doc.Packages[0]; p.Name != info.Main.Path || p.VersionInfo != released(t) {
			t.Errorf("%s: describes %v", arch, p)
		}
	}
}

// TestArm64 runs the binary for arm64 on an emulated processor. It must make the image that the other makes.
func TestArm64(t *testing.T) {
	t.Parallel()
	arm := rig.At(t, artifact(t, "mica-linux-arm64"))
	arm.Prefix = []string{"qemu-aarch64-static"}
	if got := arm.Run("version", "-f", "{{.Client.Version}} {{.Client.Arch}}"); got != released(t)+" arm64\n" {
		t.Errorf("version %q", got)
	}
	context := rig.TempDir(t)
	writeFiles(t, context, map[string]string{
		"Dockerfile": "FROM scratch AS one\nCOPY a b /d/\nFROM scratch\nCOPY --from=one --chown=5:6 /d/a /e\nCMD [\"/e\"]\n", "a": "a", "b": "b",
	})
	args := []string{"build", "-q", "--platform", "linux/arm64", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", context}
	amd := rig.At(t, artifact(t, "mica-linux-amd64"))
	if got, want := arm.Run(args...), amd.Run(args...); got != want {
		t.Errorf("arm64 made image %q, amd64 %q", got, want)
	}
}

// TestImage builds with mica in its own container.
func TestImage(t *testing.T) {
	t.Parallel()
	m := rig.At(t, artifact(t, "mica-linux-amd64"))
	m.Run("load", "-i", artifact(t, "mica-image.tar"))
	image := strings.Fields(m.Run("images", "--format", "{{.Repository}}:{{.Tag}}"))[0]
	if got := m.Run("run", "--rm", image, "version", "-f", "{{.Client.Version}}"); strings.TrimSpace(got) != released(t) {
		t.Errorf("version %q, not %q", got, released(t))
	}
	work := rig.TempDir(t)
	writeFiles(t, work, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "a"})
	m.Run("run", "--rm", "-v", work+":/work", image, "build", "-q", "-o", "type=oci,dest=image.tar", ".")
	if got := rig.Must(t, "skopeo", "inspect", "--format", "{{.Os}}", "oci-archive:"+filepath.Join(work, "image.tar")); got != "linux\n" {
		t.Errorf("skopeo inspect: %q", got)
	}
	for _, archive := range []string{"mica-image.tar", "mica-kaniko-image.tar"} {
		for _, arch := range []string{"amd64", "arm64"} {
			config := rig.Must(t, "skopeo", "--override-arch", arch, "inspect", "--format", "{{.Architecture}} {{index .Labels \"org.opencontainers.image.version\"}}",
				"oci-archive:"+artifact(t, archive))
			if want := arch + " " + released(t) + "\n"; config != want {
				t.Errorf("%s: skopeo inspect: %q, not %q", archive, config, want)
			}
		}
	}
}

// writeFiles writes files below a directory.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
