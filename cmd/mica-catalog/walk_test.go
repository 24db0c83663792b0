package main

import (
	"archive/zip"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

const debian = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n"

// archiveOf is a zip archive.
func archiveOf(t testing.TB, files map[string]string) string {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for name, content := range files {
		f, err := w.Create(name)
		if err == nil {
			_, err = io.WriteString(f, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// jar is a Java archive of an artifact with other files in it.
func jar(t testing.TB, group, name, version string, files map[string]string) string {
	t.Helper()
	all := map[string]string{"META-INF/maven/x/y/pom.properties": fmt.Sprintf("groupId=%s\nartifactId=%s\nversion=%s\n", group, name, version)}
	for name, content := range files {
		all[name] = content
	}
	return archiveOf(t, all)
}

// TestWalk checks the packages of each kind of file, with the names, versions and package URLs of the specification's types.
func TestWalk(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  []Package
	}{
		"dpkg": {
			map[string]string{
				"etc/os-release": debian,
				"var/lib/dpkg/status": "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nSource: glibc\nVersion: 2.36-9+deb12u4\nConffiles:\n /etc/ld.so.conf 0\n\n" +
					"Package: libc6\nStatus: install ok installed\nArchitecture: i386\nSource: glibc\nVersion: 2.36-9+deb12u4\n\n" +
					"Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nSource: zlib (1:1.2)\nVersion: 1:1.2.13\n\n" +
					"Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n",
			},
			[]Package{
				{Type: "deb", Name: "libc6", Version: "2.36-9+deb12u4", PURL: "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=bookworm&source=glibc", Path: "var/lib/dpkg/status"},
				{Type: "deb", Name: "libc6", Version: "2.36-9+deb12u4", PURL: "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=i386&distro=bookworm&source=glibc", Path: "var/lib/dpkg/status"},
				{Type: "deb", Name: "zlib1g", Version: "1:1.2.13", PURL: "pkg:deb/debian/zlib1g@1:1.2.13?arch=amd64&distro=bookworm&source=zlib&sourceversion=1:1.2", Path: "var/lib/dpkg/status"},
			},
		},
		"distroless": {
			map[string]string{
				"etc/os-release":                     debian,
				"var/lib/dpkg/status.d/base":         "Package: base-files\nArchitecture: amd64\nVersion: 12.4\n",
				"var/lib/dpkg/status.d/base.md5sums": "00  etc/debian_version\n",
			},
			[]Package{{Type: "deb", Name: "base-files", Version: "12.4", PURL: "pkg:deb/debian/base-files@12.4?arch=amd64&distro=bookworm", Path: "var/lib/dpkg/status.d/base"}},
		},
		"apk": {
			map[string]string{
				"etc/os-release": "ID=alpine\nVERSION_ID=3.20.3\n",
				"lib/apk/db/installed": "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nS:1\nI:2\nT:the musl c library\nL:MIT\no:musl\nt:1\nc:0123456789abcdef0123456789abcdef01234567\np:so:libc.musl-x86_64.so.1=1\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\n\n" +
					"P:musl-utils\nV:1.2.5-r0\nA:x86_64\nL:MIT AND BSD-2-Clause AND GPL-2.0-or-later\no:musl\n\n",
			},
			[]Package{
				{Type: "apk", Name: "musl", Version: "1.2.5-r0", PURL: "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=3.20.3&origin=musl", Licenses: []string{"MIT"}, Path: "lib/apk/db/installed"},
				{Type: "apk", Name: "musl-utils", Version: "1.2.5-r0", PURL: "pkg:apk/alpine/musl-utils@1.2.5-r0?arch=x86_64&distro=3.20.3&origin=musl", Licenses: []string{"MIT AND BSD-2-Clause AND GPL-2.0-or-later"}, Path: "lib/apk/db/installed"},
			},
		},
		"Python": {
			map[string]string{
				"v/Flask_Login-0.6.dist-info/METADATA": "Metadata-Version: 2.1\nName: Flask_Login\nVersion: 0.6\n\nName: no\n",
				"v/old.egg-info/PKG-INFO":              "Metadata-Version: 1.0\nName: old\nVersion: 1\n",
				"v/w-2.whl":                            archiveOf(t, map[string]string{"w-2.dist-info/METADATA": "Name: w\nVersion: 2\n"}),
				"v/script.py":                          "#!/usr/bin/python3\n",
			},
			[]Package{
				{Type: "pypi", Name: "Flask_Login", Version: "0.6", PURL: "pkg:pypi/flask-login@0.6", Path: "v/Flask_Login-0.6.dist-info/METADATA"},
				{Type: "pypi", Name: "old", Version: "1", PURL: "pkg:pypi/old@1", Path: "v/old.egg-info/PKG-INFO"},
				{Type: "pypi", Name: "w", Version: "2", PURL: "pkg:pypi/w@2", Path: "v/w-2.whl"},
			},
		},
		"npm": {
			map[string]string{
				"n/node_modules/@babel/core/package.json": `{"name":"@babel/core","version":"7.0.0"}`,
				"n/node_modules/x/test/package.json":      `{"private":true}`,
			},
			[]Package{{Type: "npm", Name: "@babel/core", Version: "7.0.0", PURL: "pkg:npm/%40babel/core@7.0.0", Path: "n/node_modules/@babel/core/package.json"}},
		},
		"RubyGems": {
			map[string]string{"g/specifications/rake-13.0.gemspec": "Gem::Specification.new do |s|\n  s.name = \"rake\".freeze\n  s.version = \"13.0\"\nend\n"},
			[]Package{{Type: "gem", Name: "rake", Version: "13.0", PURL: "pkg:gem/rake@13.0", Path: "g/specifications/rake-13.0.gemspec"}},
		},
		"Java": {
			map[string]string{"opt/app.war": jar(t, "org.Example", "Outer", "1.0", map[string]string{
				"WEB-INF/lib/a.jar":   jar(t, "org.example", "inner", "2.0", nil),
				"WEB-INF/lib/b-3.jar": archiveOf(t, map[string]string{"b.class": ""}),
			})},
			[]Package{
				{Type: "maven", Name: "org.Example:Outer", Version: "1.0", PURL: "pkg:maven/org.Example/Outer@1.0", Path: "opt/app.war"},
				{Type: "maven", Name: "org.example:inner", Version: "2.0", PURL: "pkg:maven/org.example/inner@2.0", Path: "opt/app.war"},
				{Type: "maven", Name: "b:b", Version: "3", PURL: "pkg:maven/b/b@3", Path: "opt/app.war"},
			},
		},
		"Rust": {
			map[string]string{"usr/bin/tool": modelFile(t, "language/rust/cargoauditable/testdata/no_deps/no_deps")},
			[]Package{{Type: "cargo", Name: "no_deps", Version: "0.1.0", PURL: "pkg:cargo/no_deps@0.1.0", Path: "usr/bin/tool"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := walkFiles(t, c.files)
			for _, list := range [][]Package{got.packages, c.want} {
				slices.SortFunc(list, func(a, b Package) int { return cmp.Compare(a.PURL, b.PURL) })
			}
			if fmt.Sprintf("%+v", got.packages) != fmt.Sprintf("%+v", c.want) || len(got.warnings) > 0 {
				t.Errorf("%+v\n%q\nwant %+v", got.packages, got.warnings, c.want)
			}
		})
	}
}

// TestGo checks the modules of this test, a Go binary.
func TestGo(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	got := walkFiles(t, map[string]string{"usr/bin/tool": string(content), "usr/lib/notes.go": string(content)})
	for _, want := range []Package{
		{Type: "golang", Name: "github.com/google/osv-scalibr", Version: "v0.5.3", PURL: "pkg:golang/github.com/google/osv-scalibr@v0.5.3", Path: "usr/bin/tool"},
		{Type: "golang", Name: "stdlib", Path: "usr/bin/tool"},
	} {
		p := got.find(want.Name)
		if p == nil || p.Path != want.Path || want.PURL != "" && fmt.Sprint(*p) != fmt.Sprint(want) || p.Version == "" {
			t.Errorf("%+v, want %+v", p, want)
		}
	}
}

// TestHostile checks that a file that makes no sense is a warning, and that the package of another is listed.
func TestHostile(t *testing.T) {
	t.Parallel()
	deep := jar(t, "g", "bottom", "1", nil)
	for range 6 {
		deep = jar(t, "g", "middle", "1", map[string]string{"a.jar": deep})
	}
	for name, c := range map[string]struct {
		path, content string
		size          int64
		warning       string
	}{
		"too large":         {"var/lib/dpkg/status", "", maxFile + 1, "the file has 268435457 bytes, the limit is 268435456"},
		"large metadata":    {"n/package.json", "{}", maxMetadata + 1, "the limit is 16777216"},
		"large binary":      {"bin/tool", "\x7fELF", maxBinary + 1, "the limit is 4294967296"},
		"jars, deep":        {"a.jar", deep, 0, "max zip depth"},
		"broken archive":    {"a.jar", "PK\x03\x04" + strings.Repeat("x", 100), 0, "not a valid zip file"},
		"panic":             {"etc/os-release", `ID="`, 0, "internal error: "},
		"other types":       {"n/package.json", `{"name":["a"],"version":{}}`, 0, "cannot unmarshal"},
		"status":            {"var/lib/dpkg/status", "Package: a\nStatus: broken\nVersion: 1\n\n", 0, `invalid DPKG Status field "broken"`},
		"line without key":  {"lib/apk/db/installed", "P:a\nV:1\n\nno colon\n", 0, "invalid line"},
		"name of 1 MB":      {"n/package.json", `{"name":"` + strings.Repeat("a", 1<<20) + `","version":"1"}`, 0, "the name or the version of a package is too long"},
		"not a database":    {"var/lib/rpm/Packages", "not a database", 0, "Packages"},
		"no slots":          {"var/lib/rpm/Packages.db", "RpmP\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00" + strings.Repeat("\x00", 8000), 0, "bad slot Magic"},
		"lines in an error": {"n/package.json", "{\"name\":\"\n\n", 0, "invalid character"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &mica{
				files: map[string]string{"etc/passwd": "", "zz/METADATA": "", "zz/good.dist-info/METADATA": "Name: good\nVersion: 1\n", c.path: c.content},
				sizes: map[string]int64{c.path: c.size},
			}
			if c.path == "etc/os-release" {
				m.files["lib/apk/db/installed"] = "P:a\nV:1\n\n"
			}
			got := catalogueOf(t, m, maxFileTime)
			if len(got.warnings) != 1 || !strings.Contains(got.warnings[0], c.warning) || len(got.warnings[0]) > 400 || strings.ContainsAny(got.warnings[0], "\n\x00") || got.again {
				t.Errorf("warnings %q, want %q", got.warnings, c.warning)
			}
			if got.find("good") == nil {
				t.Errorf("packages %+v", got.packages)
			}
		})
	}
}

// TestSlow checks that an extractor that does not end is left behind.
func TestSlow(t *testing.T) {
	t.Parallel()
	endless := newDatabase(t, "CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT x AS blob FROM n WHERE x < 0")
	m := &mica{files: map[string]string{"var/lib/rpm/rpmdb.sqlite": endless, "zz/good.dist-info/METADATA": "Name: good\nVersion: 1\n"}}
	got := catalogueOf(t, m, time.Second)
	if got.find("good") == nil || len(got.warnings) != 1 || !strings.Contains(got.warnings[0], errSlow.Error()) || !got.again {
		t.Errorf("%+v", got)
	}
}

// TestWarn checks that a warning is short and one line, whatever an error says.
func TestWarn(t *testing.T) {
	t.Parallel()
	c := newConnection(t)
	m := &mica{}
	done := make(chan error, 1)
	go func() { done <- m.listen(c.requests, c.replies, c.descriptors) }()
	w := &walker{client: c.client}
	if err := errors.Join(w.warn("a", errors.New(strings.Repeat("ä\n", 1000))), c.client.done(), <-done); err != nil {
		t.Fatal(err)
	}
	if len(m.found.warnings) != 1 || len(m.found.warnings[0]) > 400 || strings.ContainsAny(m.found.warnings[0], "\n\ufffd") || !strings.HasSuffix(m.found.warnings[0], "ä  ...") {
		t.Errorf("%q", m.found.warnings)
	}
}

// FuzzFiles checks that no content of a file ends a walk. The formats of rpm are not here: their library may panic in a goroutine of
// its own, of which mica makes a warning.
func FuzzFiles(f *testing.F) {
	paths := []string{
		"var/lib/dpkg/status", "var/lib/dpkg/status.d/a", "lib/apk/db/installed", "a.dist-info/METADATA", "a.whl", "n/package.json", "a.gemspec", "bin/tool", "a.jar", "etc/os-release",
	}
	for i, content := range []string{
		"Package: a\nStatus: install ok installed\nVersion: 1\nSource: b (2)\n\n", "Package: a\nVersion: 1\n", "P:a\nV:1\n\n", "Name: a\nVersion: 1\n",
		archiveOf(f, map[string]string{"a.dist-info/METADATA": "Name: a\nVersion: 1\n"}), `{"name":"@a/b","version":"1","maintainers":[null]}`,
		"require_relative 'v'\nGem::Specification.new do |s|\n s.name = 'a'\n s.version = A::V\nend\n", "\x7fELF\x02\x01\x01", jar(f, "a", "b", "1", nil), `ID="`,
	} {
		f.Add(i, content)
	}
	f.Fuzz(func(t *testing.T, i int, content string) {
		at := paths[uint(i)%uint(len(paths))]
		files := map[string]string{"var/lib/dpkg/status.d/z": "Package: z\nVersion: 1\n", at: content}
		got := walkFiles(t, files)
		for _, p := range got.packages {
			if p.Name == "" || p.Type == "" || len(p.Name) > maxText || len(p.PURL) > 3*maxText || files[p.Path] == "" {
				t.Errorf("package %+v", p)
			}
		}
	})
}
