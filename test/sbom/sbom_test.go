//go:build e2e

// Package sbom tests the catalogues of packages: mica-catalog over real databases, `mica sbom`, `build --sbom`, `diff --only packages`.
package sbom

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// jar is a Java archive of an artifact with files in it.
func jar(t *testing.T, name, version string, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	files["META-INF/maven/org.example/"+name+"/pom.properties"] = fmt.Appendf(nil, "groupId=org.example\nartifactId=%s\nversion=%s\n", name, version)
	for path, content := range files {
		f, err := w.Create(path)
		if err == nil {
			_, err = f.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// newMica has the image app, with packages of every kind.
func newMica(t *testing.T) *rig.Mica {
	t.Helper()
	m := rig.NewMica(t)
	binary, err := os.ReadFile(rig.Binary(t, "mica-catalog")) // a binary with modules
	if err != nil {
		t.Fatal(err)
	}
	importFiles(t, m, "files", map[string][]byte{
		"etc/os-release": []byte("ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n"),
		"var/lib/dpkg/status": []byte("Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\nMaintainer: A <a@example.org>\n\n" +
			"Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n"),
		"lib/apk/db/installed": []byte("P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\n\n"),
		"usr/lib/python3/site-packages/requests-2.0.dist-info/METADATA": []byte("Metadata-Version: 2.1\nName: requests\nVersion: 2.0\nLicense: Apache 2.0\n\n"),
		"app/node_modules/left-pad/package.json":                        []byte(`{"name":"left-pad","version":"1.3.0","license":"WTFPL"}`),
		"usr/share/gems/specifications/rake-13.0.gemspec":               []byte("Gem::Specification.new do |s|\n  s.name = \"rake\".freeze\n  s.version = \"13.0\"\nend\n"),
		"opt/app.jar": jar(t, "outer", "1.0", map[string][]byte{"lib/inner.jar": jar(t, "inner", "2.0", map[string][]byte{})}),
	})
	dir := rig.TempDir(t)
	for name, content := range map[string][]byte{"tool": binary, "Dockerfile": []byte("FROM files\nCOPY --chmod=755 tool /usr/bin/\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m.Run("build", "-q", "-t", "app", dir)
	return m
}

func importFiles(t *testing.T, m *rig.Mica, name string, files map[string][]byte) {
	t.Helper()
	m.RunIn(bytes.NewReader(rig.LayerOf(t, files)), "import", "-", name)
}

// catalogued is a package in the output of `mica sbom --format json`.
type catalogued struct{ Type, Name, Version, PURL, Path string }

func list(t *testing.T, m *rig.Mica, image string) []catalogued {
	t.Helper()
	var all []catalogued
	if err := json.Unmarshal([]byte(m.Run("sbom", "--format", "json", image)), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestKinds checks that packages of every kind are found, and what was removed is not.
func TestKinds(t *testing.T) {
	m := newMica(t)
	all := list(t, m, "app")
	for _, want := range []catalogued{
		{"deb", "bash", "5.2-1", "pkg:deb/debian/bash@5.2-1?arch=amd64&distro=bookworm", "var/lib/dpkg/status"},
		{"apk", "musl", "1.2.5-r0", "", "lib/apk/db/installed"},
		{"pypi", "requests", "2.0", "pkg:pypi/requests@2.0", "usr/lib/python3/site-packages/requests-2.0.dist-info/METADATA"},
		{"npm", "left-pad", "1.3.0", "pkg:npm/left-pad@1.3.0", "app/node_modules/left-pad/package.json"},
		{"gem", "rake", "13.0", "pkg:gem/rake@13.0", "usr/share/gems/specifications/rake-13.0.gemspec"},
		{"maven", "org.example:outer", "1.0", "pkg:maven/org.example/outer@1.0", ""},
		{"maven", "org.example:inner", "2.0", "pkg:maven/org.example/inner@2.0", ""},
		{"golang", "github.com/google/osv-scalibr", "v0.5.3", "", "usr/bin/tool"},
	} {
		if !slices.ContainsFunc(all, func(p catalogued) bool {
			return p.Type == want.Type && p.Name == want.Name && p.Version == want.Version && (want.PURL == "" || p.PURL == want.PURL) && (want.Path == "" || p.Path == want.Path)
		}) {
			t.Errorf("%+v is missing in %+v", want, slices.DeleteFunc(slices.Clone(all), func(p catalogued) bool { return p.Type != want.Type }))
		}
	}
	if slices.ContainsFunc(all, func(p catalogued) bool { return p.Name == "gone" }) {
		t.Error("a package that was removed is listed")
	}
	table := m.Run("sbom", "app")
	if !strings.HasPrefix(table, "NAME") || !strings.Contains(table, "\nbash ") {
		t.Errorf("table %q", table)
	}
	file := filepath.Join(rig.TempDir(t), "out.json")
	m.Run("sbom", "--format", "spdx-json", "-o", file, "app")
	if data, err := os.ReadFile(file); err != nil || string(data) != m.Run("sbom", "--format", "spdx-json", "app") {
		t.Errorf("the file is another document: %v", err)
	}
}

// TestHostile checks that what makes no sense is a warning, and that the rest is listed.
func TestHostile(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	deep := jar(t, "bottom", "1", map[string][]byte{})
	for range 8 {
		deep = jar(t, "middle", "1", map[string][]byte{"a.jar": deep})
	}
	dir := rig.TempDir(t)
	for name, content := range map[string]string{
		"deep.jar": string(deep), "broken.jar": "PK\x03\x04nonsense", "rpmdb.sqlite": "SQLite format 3\x00" + strings.Repeat("\xff", 5000), "package.json": `{"name":["a"],"version":{}}`,
		"Dockerfile": "FROM base\nCOPY deep.jar broken.jar /opt/\nCOPY rpmdb.sqlite /var/lib/rpm/\nCOPY package.json /app/node_modules/x/\n" +
			"RUN ln -s loop /loop; ln -s / /root-again; mkfifo /fifo; mkdir -p /var/lib/dpkg; truncate -s 3G /var/lib/dpkg/status; mkdir -p /n/node_modules/y; " +
			"printf '{\"name\":\"y\\\\u001b[2J\",\"version\":\"1\"}' > /n/node_modules/y/package.json\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m.Run("build", "-q", "-t", "hostile", dir)
	got := m.Try(nil, "sbom", "--format", "json", "hostile")
	if got.Code != 0 || !strings.Contains(got.Stdout, "[2J") || strings.Contains(got.Stderr, "goroutine") {
		t.Errorf("%+v", got)
	}
	if want := "WARNING: not catalogued: var/lib/dpkg/status: the file has 3221225472 bytes"; !strings.Contains(got.Stderr, want) {
		t.Errorf("stderr %q, want %q in it", got.Stderr, want)
	}
	if got := m.Try(nil, "build", "--progress=plain", "--sbom=true", "--output", "type=oci,dest="+filepath.Join(dir, "out.tar"), dir); got.Code != 0 ||
		!strings.Contains(got.Stderr, "listing packages") || !strings.Contains(got.Stderr, "the SBOM may lack packages: not catalogued: var/lib/dpkg/status: the file has") {
		t.Errorf("build: %+v", got)
	}
	for _, args := range [][]string{{"--format", "xml", "hostile"}, {"nosuch:///"}, {"--platform", "a/b/c/d/e", "hostile"}} {
		if got := m.Try(nil, append([]string{"sbom"}, args...)...); got.Code == 0 || got.Stdout != "" || strings.Contains(got.Stderr, "goroutine") {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

// TestBuild checks that --sbom attests the packages where BuildKit's scanners do, and that a cached build attests the same bytes.
func TestBuild(t *testing.T) {
	m := newMica(t)
	dir := rig.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM app\nCOPY Dockerfile /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "docker-bake.hcl"), []byte("target \"default\" {\n  attest = [\"type=sbom\"]\n  output = [\"type=local,dest=out\"]\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var digests []string
	for range 2 {
		out := filepath.Join(rig.TempDir(t), "out.tar")
		m.Run("build", "--sbom=true", "--output", "type=oci,dest="+out, dir)
		layout := rig.TempDir(t)
		rig.Must(t, "tar", "-xf", out, "-C", layout)
		digests = append(digests, checkAttestation(t, layout))
	}
	if digests[0] != digests[1] {
		t.Errorf("the second build attests another document: %q", digests)
	}
	cmd := m.Command("bake", "--allow", "fs.write="+dir)
	cmd.Dir = dir
	if got := rig.Run(t, cmd); got.Code != 0 {
		t.Fatalf("bake: %+v", got)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "out", "sbom.spdx.json")); err != nil || !bytes.Contains(data, []byte(`"predicateType":"https://spdx.dev/Document"`)) || !bytes.Contains(data, []byte("left-pad")) {
		t.Errorf("sbom.spdx.json: %.300s, %v", data, err)
	}
}

// checkAttestation finds the SBOM of a layout with one image, and returns the digest of its statement.
func checkAttestation(t *testing.T, layout string) string {
	t.Helper()
	read := func(digest string, v any) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(layout, "blobs", strings.Replace(digest, ":", "/", 1)))
		if err == nil {
			err = json.Unmarshal(data, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	type index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	var top, images index
	data, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err == nil {
		err = json.Unmarshal(data, &top)
	}
	if err != nil {
		t.Fatal(err)
	}
	read(top.Manifests[0].Digest, &images)
	if len(images.Manifests) != 2 || images.Manifests[1].Annotations["vnd.docker.reference.type"] != "attestation-manifest" ||
		images.Manifests[1].Annotations["vnd.docker.reference.digest"] != images.Manifests[0].Digest {
		t.Fatalf("index %+v", images)
	}
	var manifest struct {
		Layers []struct {
			Digest, MediaType string
			Annotations       map[string]string
		}
	}
	read(images.Manifests[1].Digest, &manifest)
	if len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != "application/vnd.in-toto+json" || manifest.Layers[0].Annotations["in-toto.io/predicate-type"] != "https://spdx.dev/Document" {
		t.Fatalf("manifest %+v", manifest)
	}
	var statement struct {
		Type          string `json:"_type"`
		PredicateType string
		Predicate     struct {
			SPDXVersion string
			Packages    []struct{ Name string }
		}
	}
	read(manifest.Layers[0].Digest, &statement)
	if statement.PredicateType != "https://spdx.dev/Document" || statement.Predicate.SPDXVersion != "SPDX-2.3" || len(statement.Predicate.Packages) < 8 {
		t.Errorf("statement %+v", statement)
	}
	return manifest.Layers[0].Digest
}

// TestDiffPackages checks the packages that two images have in other versions.
func TestDiffPackages(t *testing.T) {
	m := rig.NewMica(t)
	status := func(lines ...string) map[string][]byte {
		var b strings.Builder
		for _, l := range lines {
			name, version, _ := strings.Cut(l, " ")
			fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: %s\n\n", name, version)
		}
		return map[string][]byte{"etc/os-release": []byte("ID=debian\n"), "var/lib/dpkg/status": []byte(b.String())}
	}
	importFiles(t, m, "a", status("same 1", "changed 1", "removed 1"))
	importFiles(t, m, "b", status("same 1", "changed 2", "added 1"))
	got := m.Try(nil, "diff", "--only", "packages", "a", "b")
	want := "packages: 1 added, 1 removed, 1 changed\n\nPackages\n  + deb added  1\n  ~ deb changed  1 → 2\n  - deb removed  1\n"
	if got.Code != 1 || !strings.HasSuffix(got.Stdout, want) {
		t.Errorf("%+v, want %q", got, want)
	}
	if got := m.Try(nil, "diff", "--only", "packages", "a", "a"); got.Code != 0 || !strings.Contains(got.Stdout, "packages: same") {
		t.Errorf("the same image: %+v", got)
	}
}

// TestNotInstalled checks what mica says without mica-catalog.
func TestNotInstalled(t *testing.T) {
	m := newMica(t)
	alone := filepath.Join(rig.TempDir(t), "mica")
	rig.Must(t, "cp", rig.Binary(t, "mica"), alone)
	dir := rig.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM app\nRUN false\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
	}{{[]string{"sbom", "app"}, 1}, {[]string{"build", "--sbom=true", dir}, 1}, {[]string{"diff", "--only", "packages", "app", "app"}, 0}} {
		cmd := exec.Command(alone, c.args...)
		cmd.Env = slices.Concat(m.Command().Env, []string{"PATH=/usr/bin:/bin"})
		got := rig.Run(t, cmd)
		if got.Code != c.code || c.code != 0 && !strings.Contains(got.Stderr, "mica-catalog is not installed: put it beside mica or on PATH") {
			t.Errorf("%q: %+v", c.args, got)
		}
	}
}
