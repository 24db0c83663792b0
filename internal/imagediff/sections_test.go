package imagediff_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/catalog"
	"github.com/micabuild/mica/internal/imagediff"
	. "github.com/micabuild/mica/internal/inspect/inspecttest"
)

// compared compares two images that differ in their configs alone, with the layers of layers[0] and layers[1] if those are given.
func compared(t *testing.T, o imagediff.Options, changes [2]func(*Image), layers ...[][]Entry) *imagediff.Report {
	t.Helper()
	s := NewStore(t)
	if layers == nil {
		layers = [][][]Entry{{{File("f", "x")}}, {{File("f", "x")}}}
	}
	s.Image(changes[0], layers[0], "a:1")
	s.Image(changes[1], layers[1], "b:1")
	r, err := imagediff.Compare(t.Context(), s.Open("a:1"), s.Open("b:1"), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// configLines are the differences of configs as lines.
func configLines(r *imagediff.Report) (list []string) {
	for _, c := range r.Config.Changes {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", c.Change, c.Field, c.Key, c.Old, c.New)))
	}
	return list
}

func none(*Image) {}

func TestConfig(t *testing.T) {
	t.Parallel()
	when := time.Unix(0, 0).UTC()
	for _, test := range []struct {
		name         string
		before, then func(*Image)
		want         []string
	}{
		{"nothing", none, none, nil},
		{"variables", func(c *Image) { c.Config.Env = []string{"A=1", "B=1", "C==1"} }, func(c *Image) { c.Config.Env = []string{"B=2", "C==1", "D"} },
			[]string{`removed Env A "1"`, `changed Env B "1" "2"`, `added Env D  ""`}},
		{"order of variables", func(c *Image) { c.Config.Env = []string{"A=1", "B=1"} }, func(c *Image) { c.Config.Env = []string{"B=1", "A=1"} },
			[]string{`changed Env  ["A=1","B=1"] ["B=1","A=1"]`}},
		{"variable twice", func(c *Image) { c.Config.Env = []string{"A=1"} }, func(c *Image) { c.Config.Env = []string{"A=1", "A=1"} },
			[]string{`changed Env  ["A=1"] ["A=1","A=1"]`}},
		{"labels", func(c *Image) { c.Config.Labels = map[string]string{"a": "1"} }, func(c *Image) { c.Config.Labels = map[string]string{"a": "<2>"} },
			[]string{`changed Labels a "1" "<2>"`}},
		{"ports", none, func(c *Image) { c.Config.ExposedPorts = map[string]struct{}{"80/tcp": {}} }, []string{`added ExposedPorts 80/tcp  {}`}},
		{"volumes", func(c *Image) { c.Config.Volumes = map[string]struct{}{"/v": {}} }, none, []string{`removed Volumes /v {}`}},
		{"command", func(c *Image) { c.Config.Cmd = []string{"a", "b"} }, func(c *Image) { c.Config.Cmd = []string{"a b"} },
			[]string{`changed Cmd  ["a","b"] ["a b"]`}},
		{"entrypoint", none, func(c *Image) { c.Config.Entrypoint = []string{"a"} }, []string{`added Entrypoint   ["a"]`}},
		{"no command is an empty one", none, func(c *Image) { c.Config.Cmd = []string{} }, nil},
		{"user", func(c *Image) { c.Config.User = "a" }, none, []string{`removed User  "a"`}},
		{"directory", none, func(c *Image) { c.Config.WorkingDir = "/" }, []string{`added WorkingDir   "/"`}},
		{"signal", func(c *Image) { c.Config.StopSignal = "1" }, func(c *Image) { c.Config.StopSignal = "2" }, []string{`changed StopSignal  "1" "2"`}},
		{"platform", func(c *Image) { c.Variant = "v8" }, func(c *Image) { c.Architecture = "arm64" },
			[]string{`changed architecture  "amd64" "arm64"`, `removed variant  "v8"`}},
		{"author", none, func(c *Image) { c.Author = "me" }, []string{`added author   "me"`}},
		{"created", none, func(c *Image) { c.Created = &when }, []string{`added created   "1970-01-01T00:00:00Z"`}},
	} {
		r := compared(t, imagediff.Options{Only: []string{"config"}}, [2]func(*Image){test.before, test.then})
		if diff := cmp.Diff(test.want, configLines(r)); diff != "" || r.Same != (test.want == nil) {
			t.Errorf("%s: same is %t\n%s", test.name, r.Same, diff)
		}
	}
}

func historyLines(r *imagediff.Report) (list []string) {
	for _, c := range r.History.Changes {
		line := c.New
		if line == nil {
			line = c.Old
		}
		list = append(list, strings.TrimSpace(fmt.Sprint(c.Change, " ", line.CreatedBy, line.Comment, " ", strings.Join(c.Fields, " "))))
	}
	return list
}

func TestHistory(t *testing.T) {
	t.Parallel()
	lines := func(list ...string) func(*Image) {
		return func(c *Image) {
			c.History = nil
			for _, l := range list {
				c.History = append(c.History, ocispec.History{CreatedBy: l})
			}
		}
	}
	line := func(list ...ocispec.History) func(*Image) { return func(c *Image) { c.History = list } }
	at := func(when time.Time, list ...string) func(*Image) {
		return func(c *Image) {
			lines(list...)(c)
			for i := range c.History {
				c.History[i].Created = &when
			}
		}
	}
	for _, test := range []struct {
		name         string
		before, then func(*Image)
		options      imagediff.Options
		want         []string
	}{
		{"same", lines("a", "b"), lines("a", "b"), imagediff.Options{}, nil},
		{"changed in the middle", lines("a", "b", "c"), lines("a", "x", "c"), imagediff.Options{}, []string{"removed b", "added x"}},
		{"added at the ends", lines("b"), lines("a", "b", "c"), imagediff.Options{}, []string{"added a", "added c"}},
		{"moved", lines("a", "b", "c", "d"), lines("b", "c", "a", "d"), imagediff.Options{}, []string{"removed a", "added a"}},
		{"twice", lines("a", "a"), lines("a"), imagediff.Options{}, []string{"removed a"}},
		{"none", lines("a"), lines(), imagediff.Options{}, []string{"removed a"}},
		{"times", at(Time, "a", "b"), at(Time.Add(1), "a", "b"), imagediff.Options{}, []string{"changed a created", "changed b created"}},
		{"times ignored", at(Time, "a"), at(Time.Add(1), "a"), imagediff.Options{IgnoreTimes: true}, nil},
		{"no time", lines("a"), at(Time, "a"), imagediff.Options{}, []string{"changed a created"}},
		{"comment and author", lines("a"), line(ocispec.History{CreatedBy: "a", Comment: "b", Author: "c"}), imagediff.Options{}, []string{"changed ab comment author"}},
		{"comment alone", line(ocispec.History{Comment: "a"}), line(ocispec.History{Comment: "b"}), imagediff.Options{}, []string{"removed a", "added b"}},
		{"empty layer", line(ocispec.History{CreatedBy: "a"}, ocispec.History{CreatedBy: "b"}), line(ocispec.History{CreatedBy: "a"}, ocispec.History{CreatedBy: "b", EmptyLayer: true}),
			imagediff.Options{IgnoreTimes: true}, []string{"changed b emptyLayer"}},
		{"empty layer moved", line(ocispec.History{CreatedBy: "a", EmptyLayer: true}, ocispec.History{CreatedBy: "b"}),
			line(ocispec.History{CreatedBy: "b"}, ocispec.History{CreatedBy: "a", EmptyLayer: true}), imagediff.Options{}, []string{"removed a", "added a"}},
	} {
		test.options.Only = []string{"history"}
		r := compared(t, test.options, [2]func(*Image){test.before, test.then})
		if diff := cmp.Diff(test.want, historyLines(r)); diff != "" || r.Same != (test.want == nil) {
			t.Errorf("%s: same is %t\n%s", test.name, r.Same, diff)
		}
	}
}

// TestHistoryLong: the work of a comparison is bounded, and what it finds is complete.
func TestHistoryLong(t *testing.T) {
	t.Parallel()
	lines := func(prefix string) func(*Image) {
		return func(c *Image) {
			for n := range 3000 {
				c.History = append(c.History, ocispec.History{CreatedBy: fmt.Sprint(prefix, n), EmptyLayer: true})
			}
		}
	}
	r := compared(t, imagediff.Options{Only: []string{"history"}}, [2]func(*Image){lines("a"), lines("b")})
	if got := len(r.History.Changes); got != 6000 {
		t.Errorf("%d changes", got)
	}
}

func TestLayers(t *testing.T) {
	t.Parallel()
	layer := func(name string) []Entry { return []Entry{File(name, name)} }
	r := compared(t, imagediff.Options{Only: []string{"layers"}}, [2]func(*Image){none, none},
		[][]Entry{layer("a"), layer("b"), layer("c")}, [][]Entry{layer("a"), layer("long"), layer("c"), layer("d")})
	var got []string
	for _, l := range r.Layers.Layers {
		got = append(got, fmt.Sprintf("%s%d %s", l.Change, l.Size, l.CreatedBy))
	}
	want := []string{"1 RUN step 1", "removed1 RUN step 2", "added4 RUN step 2", "1 RUN step 3", "added1 RUN step 4"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if l := r.Layers; l.Shared != (imagediff.LayerSum{Count: 2, Size: 2}) || l.Removed != (imagediff.LayerSum{Count: 1, Size: 1}) || l.Added != (imagediff.LayerSum{Count: 2, Size: 5}) {
		t.Errorf("%+v", l)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20+1)
	a := [][]Entry{{File("etc/a.conf", "1\n2\n"), File("etc/b.conf", "no newline"), File("etc/c.conf", "\x00"), File("etc/d.conf", long), File("etc/e", "1"), File("etc/f.conf", ""), File("odd\n\"\xff.conf", "1\n")}}
	b := [][]Entry{{File("etc/a.conf", "1\n3\n"), File("etc/b.conf", "none"), File("etc/c.conf", "\x01"), File("etc/d.conf", "x"), File("etc/e", "2"), mode(File("etc/f.conf", ""), 0o600), File("odd\n\"\xff.conf", "2\n")}}
	r := compared(t, imagediff.Options{Text: []string{"*.conf"}}, [2]func(*Image){none, none}, a, b)
	got := map[string]string{}
	for _, c := range r.Files.Changes {
		got[c.Path] = c.Text + c.NoText
	}
	want := map[string]string{
		"/etc/a.conf": "--- a/etc/a.conf\n+++ b/etc/a.conf\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n",
		"/etc/b.conf": "--- a/etc/b.conf\n+++ b/etc/b.conf\n@@ -1 +1 @@\n-no newline\n\\ No newline at end of file\n+none\n\\ No newline at end of file\n",
		"/etc/c.conf": "binary", "/etc/d.conf": "larger than 1 MiB", "/etc/e": "", "/etc/f.conf": "",
		"/odd\n\"\xff.conf": `--- "a/odd\n\"\xff.conf"` + "\n" + `+++ "b/odd\n\"\xff.conf"` + "\n@@ -1 +1 @@\n-1\n+2\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestLongPath: a path that the kernel does not open is compared, without its content.
func TestLongPath(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("d/", 2020) + "f.gz"
	r := compared(t, imagediff.Options{Text: []string{"*.gz"}, Causes: true}, [2]func(*Image){none, none}, [][]Entry{{File(long, "1")}}, [][]Entry{{File(long, "2")}})
	c := r.Files.Changes[0]
	if len(r.Files.Changes) != 1 || !slices.Equal(c.Aspects, []imagediff.Aspect{imagediff.Content}) || c.Cause != imagediff.Unexplained || c.NoText == "" && c.Text == "" {
		t.Errorf("%d changes, %v %s %s%s", len(r.Files.Changes), c.Aspects, c.Cause, c.Text, c.NoText)
	}
}

// TestPackagesFail: if packages cannot be listed, the rest is compared, unless they were asked for.
func TestPackagesFail(t *testing.T) {
	t.Parallel()
	s := NewStore(t)
	s.Image(nil, [][]Entry{{File("f", "1")}}, "a:1")
	s.Image(nil, [][]Entry{{File("f", "2")}}, "b:1")
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	o := imagediff.Options{Packages: &catalog.Cataloguer{Store: s.Store, Program: broken}}
	r, err := imagediff.Compare(t.Context(), s.Open("a:1"), s.Open("b:1"), o)
	if err != nil || len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "packages were not compared: ") || r.Packages != nil || len(r.Files.Changes) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	o.Only = []string{"packages", "files"}
	if _, err := imagediff.Compare(t.Context(), s.Open("a:1"), s.Open("b:1"), o); err == nil || !strings.Contains(err.Error(), "packages of a:1: ") {
		t.Error(err)
	}
}

// TestIgnore: what is ignored is no difference, and a file with another difference beside it still is one.
func TestIgnore(t *testing.T) {
	t.Parallel()
	later := func(e Entry) Entry { return edit(e, func(h *tar.Header) { h.ModTime = Time.Add(time.Hour) }) }
	owned := func(e Entry) Entry { return edit(e, func(h *tar.Header) { h.Uid = 5 }) }
	a := [][]Entry{{File("time", ""), File("owner", ""), File("both", ""), Dir("logs"), File("logs/x", "1"), File("more", "1")}}
	b := [][]Entry{{later(File("time", "")), owned(File("owner", "")), later(File("both", "x")), Dir("logs"), File("logs/x", "2"), File("logs/y", ""), owned(File("more", "2"))}}
	for _, test := range []struct {
		options imagediff.Options
		want    []string
	}{
		{imagediff.Options{}, []string{"+ /logs/y", "~ /both content time", "~ /logs/x content", "~ /more content owner", "~ /owner owner", "~ /time time"}},
		{imagediff.Options{IgnoreTimes: true}, []string{"+ /logs/y", "~ /both content", "~ /logs/x content", "~ /more content owner", "~ /owner owner"}},
		{imagediff.Options{IgnoreOwners: true, Ignore: []string{"/logs"}}, []string{"~ /both content time", "~ /more content", "~ /time time"}},
		{imagediff.Options{IgnoreOwners: true, IgnoreTimes: true, Ignore: []string{"logs/*", "bo*", "more"}}, nil},
	} {
		r := compared(t, test.options, [2]func(*Image){none, none}, a, b)
		if diff := cmp.Diff(test.want, lines(r)); diff != "" || r.Same != (test.want == nil) {
			t.Errorf("%+v: same is %t\n%s", test.options, r.Same, diff)
		}
	}
}

func TestCauses(t *testing.T) {
	t.Parallel()
	later := func(e Entry) Entry { return edit(e, func(h *tar.Header) { h.ModTime = Time.Add(time.Hour) }) }
	jar := func(when time.Time, names ...string) string {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		for _, name := range names {
			f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: when})
			if err == nil {
				_, err = f.Write([]byte(name))
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
	gz := func(when, content string) string { return "\x1f\x8b\x08\x00" + when + "\x00\x03" + content }
	for _, test := range []struct {
		name string
		a, b []Entry
		want map[string]imagediff.Cause // of files, and "layer"
	}{
		{"time", []Entry{File("f", "")}, []Entry{later(File("f", ""))}, map[string]imagediff.Cause{"/f": imagediff.Times}},
		{"content and time", []Entry{File("f", "1")}, []Entry{later(File("f", "2"))}, map[string]imagediff.Cause{"/f": imagediff.Unexplained}},
		{"order", []Entry{File("f", ""), File("g", "")}, []Entry{File("g", ""), File("f", "")}, map[string]imagediff.Cause{"layer": imagediff.Order}},
		{"encoding", []Entry{File("f", "")}, []Entry{edit(File("f", ""), func(h *tar.Header) { h.Uname = "root" })}, map[string]imagediff.Cause{"layer": imagediff.Encoding}},
		{"bytecode", []Entry{File("a/b.pyc", "1")}, []Entry{later(File("a/b.pyc", "2"))}, map[string]imagediff.Cause{"/a/b.pyc": imagediff.Bytecode}},
		{"bytecode with another mode", []Entry{File("a/b.pyc", "1")}, []Entry{mode(File("a/b.pyc", "2"), 0o600)}, map[string]imagediff.Cause{"/a/b.pyc": imagediff.Unexplained}},
		{"gzip", []Entry{File("a.gz", gz("1234", "x"))}, []Entry{File("a.gz", gz("1235", "x"))}, map[string]imagediff.Cause{"/a.gz": imagediff.ArchiveTimes}},
		{"gzip with another content", []Entry{File("a.gz", gz("1234", "x"))}, []Entry{File("a.gz", gz("1235", "y"))}, map[string]imagediff.Cause{"/a.gz": imagediff.Unexplained}},
		{"jar", []Entry{File("a.jar", jar(Time, "a", "b"))}, []Entry{File("a.jar", jar(Time.Add(time.Hour), "a", "b"))}, map[string]imagediff.Cause{"/a.jar": imagediff.ArchiveTimes}},
		{"jar with another file", []Entry{File("a.jar", jar(Time, "a", "b"))}, []Entry{File("a.jar", jar(Time, "a", "c"))}, map[string]imagediff.Cause{"/a.jar": imagediff.Unexplained}},
		{"jar in another order", []Entry{File("a.jar", jar(Time, "a", "b"))}, []Entry{File("a.jar", jar(Time, "b", "a"))}, map[string]imagediff.Cause{"/a.jar": imagediff.Unexplained}},
		{"broken jar", []Entry{File("a.jar", "1")}, []Entry{File("a.jar", "2")}, map[string]imagediff.Cause{"/a.jar": imagediff.Unexplained}},
		{"directory of bytecode", nil, []Entry{Dir("__pycache__"), File("__pycache__/a.pyc", "1")}, map[string]imagediff.Cause{"/__pycache__": imagediff.Bytecode, "/__pycache__/a.pyc": imagediff.Bytecode}},
		{"passwords", []Entry{File("etc/shadow", "a:*:1:\nb:*:1:\n")}, []Entry{File("etc/shadow", "a:*:1:\nb:*:200:\n")}, map[string]imagediff.Cause{"/etc/shadow": imagediff.PasswordDates}},
		{"another password", []Entry{File("etc/shadow", "a:*:1:\n")}, []Entry{File("etc/shadow", "a:x:1:\n")}, map[string]imagediff.Cause{"/etc/shadow": imagediff.Unexplained}},
		{"paths", []Entry{File("etc/machine-id", "1"), File("var/lib/dpkg/status", "1"), File("var/log/x", "1"), File("opt/y.log", "1"), File("etc/ld.so.cache", "1"), File("var/cache/x", "")},
			[]Entry{File("etc/machine-id", "2"), File("var/lib/dpkg/status", "2"), File("var/log/x", "2"), File("opt/y.log", "2"), File("etc/ld.so.cache", "2"), File("var/cache/y", "")},
			map[string]imagediff.Cause{"/etc/machine-id": imagediff.Identity, "/var/lib/dpkg/status": imagediff.Packages, "/var/log/x": imagediff.Logs, "/opt/y.log": imagediff.Logs,
				"/etc/ld.so.cache": imagediff.Caches, "/var/cache/x": imagediff.Caches, "/var/cache/y": imagediff.Caches}},
	} {
		r := compared(t, imagediff.Options{Causes: true}, [2]func(*Image){none, none}, [][]Entry{test.a}, [][]Entry{test.b})
		got := map[string]imagediff.Cause{}
		for _, c := range r.Files.Changes {
			got[c.Path] = c.Cause
		}
		unexplained := 0
		for _, cause := range test.want {
			if cause == imagediff.Unexplained {
				unexplained++
			}
		}
		for _, c := range r.Causes.Causes {
			if slices.Equal(c.Examples, []string{"layer 1"}) {
				got["layer"] = c.Cause
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" || r.Causes.Unexplained != unexplained {
			t.Errorf("%s: %d unexplained\n%s", test.name, r.Causes.Unexplained, diff)
		}
	}
}

// TestCausesOfConfig: times of the config and the history are explained, anything else in them is not.
func TestCausesOfConfig(t *testing.T) {
	t.Parallel()
	at := func(when time.Time, user string) func(*Image) {
		return func(c *Image) {
			c.Created, c.History[0].Created, c.Config.User, c.Config.Labels = &when, &when, user, map[string]string{ocispec.AnnotationCreated: when.String()}
		}
	}
	r := compared(t, imagediff.Options{Causes: true}, [2]func(*Image){at(Time, "a"), at(Time.Add(time.Second), "b")})
	want := []imagediff.CauseCount{
		{Cause: imagediff.Times, Count: 3, Examples: []string{"config Labels org.opencontainers.image.created", "config created", "history RUN step 1"}},
		{Cause: imagediff.Unexplained, Count: 1, Examples: []string{"config User"}},
	}
	for i := range r.Causes.Causes {
		r.Causes.Causes[i].Text, r.Causes.Causes[i].Advice = "", ""
	}
	if diff := cmp.Diff(want, r.Causes.Causes); diff != "" {
		t.Error(diff)
	}
	for _, c := range r.Config.Changes {
		if explained := c.Field != "User"; explained != (c.Cause == imagediff.Times) || explained == (c.Cause == imagediff.Unexplained) {
			t.Errorf("%s: %s", c.Field, c.Cause)
		}
	}
	if got := r.History.Changes[0].Cause; got != imagediff.Times {
		t.Errorf("history: %s", got)
	}
}
