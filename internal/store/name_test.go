package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// target is a descriptor of some content.
func target(content string) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(content), Size: int64(len(content)),
	}
}

func setName(t testing.TB, refs *Refs, ref, content string) {
	t.Helper()
	if err := refs.Set(ref, target(content)); err != nil {
		t.Fatal(err)
	}
}

// refsOf are the names in a list, as "name digest's start".
func refsOf(names []Name) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "%s=%s ", n.Ref, n.Target.Digest.Encoded()[:6])
	}
	return strings.TrimSpace(b.String())
}

func short(content string) string { return digest.FromString(content).Encoded()[:6] }

func TestNames(t *testing.T) {
	s := newStore(t)
	names := s.Names()
	const app, other = "docker.io/library/app:latest", "localhost:5000/a/b:v1"
	if _, err := names.Get(app); !errors.Is(err, ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing name: %v", err)
	}
	if list, err := names.List(); len(list) > 0 || err != nil {
		t.Errorf("an empty list: %v, %v", list, err)
	}
	setName(t, names, other, "1")
	setName(t, names, app, "1")
	setName(t, names, app, "2")
	n, err := names.Get(app)
	if err != nil || n.Ref != app || n.Target.Digest != target("2").Digest || n.Target.MediaType != ocispec.MediaTypeImageManifest || n.Target.Size != 1 {
		t.Errorf("got %+v, %v", n, err)
	}
	if n.Updated.IsZero() {
		t.Error("a name without a time")
	}
	list, err := names.List()
	if want := app + "=" + short("2") + " " + other + "=" + short("1"); refsOf(list) != want || err != nil {
		t.Errorf("list %s, %v; want %s", refsOf(list), err, want)
	}
	if list, err := s.Records().List(); len(list) > 0 || err != nil {
		t.Errorf("records %v, %v: names are none", list, err)
	}
	for range 2 { // removing it again is no error
		if err := names.Remove(app); err != nil {
			t.Error(err)
		}
	}
	if _, err := names.Get(app); !errors.Is(err, ErrNotFound) {
		t.Errorf("a removed name: %v", err)
	}
	if _, err := names.Get(other); err != nil {
		t.Errorf("the other name: %v", err)
	}
	wantEmpty(t, s, "tmp")
}

func TestNamesAreSorted(t *testing.T) {
	names := newStore(t).Names()
	var want []string
	for i := range 40 {
		want = append(want, fmt.Sprintf("docker.io/library/app%02d:latest", i))
	}
	for i := range want {
		setName(t, names, want[(i*7)%len(want)], "x")
	}
	list, err := names.List()
	if err != nil || len(list) != len(want) {
		t.Fatalf("%d names, %v", len(list), err)
	}
	for i, n := range list {
		if n.Ref != want[i] {
			t.Errorf("name %d is %s, want %s", i, n.Ref, want[i])
		}
	}
}

// Whatever a name says, it is one file in the directory of names.
func TestHostileNamesStayInTheirDirectory(t *testing.T) {
	for name, ref := range map[string]string{
		"dots":                  "../../version",
		"more dots":             "../../../../../../tmp/x",
		"absolute":              "/etc/passwd",
		"dots inside":           "a/../../../version",
		"dots that are escaped": "..%2f..%2fversion",
		"escaped twice":         "%252e%252e%252f",
		"only percent":          "%",
		"looks escaped":         "%zz",
		"slashes":               "////",
		"three dots":            "...",
		"back slashes":          `..\..\version`,
		"new line":              "a\nb",
		"not UTF-8":             "\xff\xfe",
		"spaces":                "  ",
		"wildcard":              "*",
		"option":                "-rf",
		"plus":                  "a+b",
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			dir := filepath.Dir(s.Root())
			setName(t, s.Names(), "app", "1")
			before := snapshot(t, dir)
			if _, err := s.Names().Get(ref); !errors.Is(err, ErrNotFound) {
				t.Errorf("before it is set: %v", err)
			}
			if err := s.Names().Remove(ref); err != nil {
				t.Errorf("removing what is not there: %v", err)
			}
			if after := snapshot(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("the store is now %q", after)
			}
			// JSON has no bytes that are not UTF-8: such a name may be refused, but must not be lost silently or lie elsewhere.
			if err := s.Names().Set(ref, target("2")); err == nil && name != "not UTF-8" {
				if n, err := s.Names().Get(ref); n.Ref != ref || n.Target.Digest != target("2").Digest {
					t.Errorf("got %+v, %v", n, err)
				}
				if list, err := s.Names().List(); len(list) != 2 || err != nil {
					t.Errorf("list %v, %v", list, err)
				}
			}
			for path := range snapshot(t, dir) {
				if _, ok := before[path]; !ok && filepath.Dir(path) != s.Path("refs", "names") {
					t.Errorf("%s appeared", path)
				}
			}
			if err := s.Names().Remove(ref); err != nil {
				t.Error(err)
			}
			if after := snapshot(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("the store is at last %q", after)
			}
		})
	}
}

func TestNamesThatNoFileCanHave(t *testing.T) {
	for name, ref := range map[string]string{
		"empty":    "",
		"a dot":    ".",
		"two dots": "..",
		"NUL":      "a\x00b",
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			setName(t, s.Names(), "app", "1")
			before := snapshot(t, filepath.Dir(s.Root()))
			if err := s.Names().Set(ref, target("2")); err == nil && !strings.Contains(ref, "\x00") {
				t.Error("set")
			} else if err == nil {
				if err := s.Names().Remove(ref); err != nil {
					t.Error(err)
				}
			}
			if _, err := s.Names().Get(ref); err == nil {
				t.Error("found")
			}
			if after := snapshot(t, filepath.Dir(s.Root())); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("the store is now %q", after)
			}
		})
	}
	s := newStore(t)
	if _, err := s.Names().Get(strings.Repeat("a", 300)); !errors.Is(err, ErrNotFound) {
		t.Errorf("a name that is too long for a file: %v, want ErrNotFound", err)
	}
}

func TestSetRefusesAnInvalidTarget(t *testing.T) {
	s := newStore(t)
	for _, d := range []digest.Digest{"", "sha256:../..", digest.Digest("sha512:" + strings.Repeat("ab", 64))} {
		if err := s.Names().Set("app", ocispec.Descriptor{Digest: d}); err == nil {
			t.Errorf("%q is accepted", d)
		}
	}
	wantEmpty(t, s, "refs", "names")
}

func TestDamagedNames(t *testing.T) {
	good := `{"ref":"app","target":{"digest":"` + target("x").Digest.String() + `"}}`
	for name, tt := range map[string]struct{ file, content string }{
		"empty":               {"app", ""},
		"half":                {"app", good[:len(good)/2]},
		"of another name":     {"other", good},
		"a digest that leads": {"app", `{"ref":"app","target":{"digest":"sha256:../../../version"}}`},
		"no digest":           {"app", `{"ref":"app"}`},
		"another type":        {"app", `[]`},
		"name without escape": {"a%zz", good},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			setName(t, s.Names(), "sound", "1")
			if err := os.WriteFile(s.Path("refs", "names", tt.file), []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if tt.file != "a%zz" { // no name has this file
				if _, err := s.Names().Get(tt.file); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), tt.file) {
					t.Errorf("get: %v", err)
				}
			}
			list, err := s.Names().List()
			if refsOf(list) != "sound="+short("1") || !errors.Is(err, ErrDamaged) {
				t.Errorf("list %v, %v", list, err)
			}
			if tt.file == "a%zz" {
				return
			}
			setName(t, s.Names(), tt.file, "2")
			if list, err := s.Names().List(); len(list) != 2 || err != nil {
				t.Errorf("after the name was given again: %v, %v", list, err)
			}
		})
	}
}

func TestListOfADirectoryThatIsGone(t *testing.T) {
	s := newStore(t)
	if err := os.RemoveAll(s.Path("refs")); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Names().List(); err == nil || list != nil {
		t.Errorf("%v, %v", list, err)
	}
}

// While a name moves and others come and go, each reader sees whole names.
func TestNamesUnderChange(t *testing.T) {
	s := newStore(t)
	setName(t, s.Names(), "app", "0")
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 2 {
		writers.Go(func() {
			for i := range 30 {
				if err := s.Names().Set("app", target(fmt.Sprint(w, i))); err != nil {
					t.Error(err)
				}
				own := fmt.Sprint("own", w)
				if err := errors.Join(s.Names().Set(own, target("x")), s.Names().Remove(own)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for {
				if _, err := s.Names().Get("app"); err != nil {
					t.Errorf("get: %v", err)
				}
				if list, err := s.Names().List(); len(list) == 0 || err != nil {
					t.Errorf("list: %v, %v", list, err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

// Every name that the grammar of references allows can be given: 255 characters of a repository, 128 of a tag.
func TestLongNames(t *testing.T) {
	s := newStore(t)
	for _, ref := range []string{
		"docker.io/" + strings.Repeat("r", 162) + ":latest",
		"docker.io/" + strings.Repeat("a/", 60) + "a:latest",
		"localhost:5000/" + strings.Repeat("a/b", 80) + ":" + strings.Repeat("t", 128),
		"localhost:5000/" + strings.Repeat("a/b", 80) + "@sha256:" + strings.Repeat("0", 64),
		strings.Repeat("é", 120),
	} {
		setName(t, s.Names(), ref, "1")
		if got, err := s.Names().Get(ref); err != nil || got.Ref != ref {
			t.Errorf("%s: %s, %v", ref, got.Ref, err)
		}
		for _, list := range []func() ([]Name, error){s.Names().List, s.Names().ListCached, s.Names().ListCached} {
			if got, err := list(); err != nil || len(got) != 1 || got[0].Ref != ref {
				t.Errorf("list: %v, %v", got, err)
			}
		}
		if err := s.Names().Remove(ref); err != nil {
			t.Error(err)
		}
	}
	if list, err := s.Names().List(); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
	// A hash that is not of the name that the file has is damage.
	long := strings.Repeat("x", 300)
	setName(t, s.Names(), long, "1")
	if err := os.Rename(s.Path("refs", "names", FileName(long)), s.Path("refs", "names", FileName(long+"y"))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Names().Get(long + "y"); !errors.Is(err, ErrDamaged) {
		t.Errorf("a file of another name: %v", err)
	}
}

// FuzzNames: whatever a name is, it is kept in one file of its directory and comes back as it was.
func FuzzNames(f *testing.F) {
	for _, ref := range []string{
		"docker.io/library/app:latest", "", ".", "..", "../x", "/", "~x", "%2e%2e", "a%00b", "a\x00b", "a\nb", "sha256:" + strings.Repeat("0", 64), "\xff",
		"localhost/" + strings.Repeat("a/", 60) + "b:1", "localhost/" + strings.Repeat("a", 162), strings.Repeat("%", 100), strings.Repeat("é", 130),
	} {
		f.Add(ref)
	}
	s := newStore(f)
	f.Fuzz(func(t *testing.T, ref string) {
		file := FileName(ref)
		if strings.ContainsAny(file, "/\x00") || len(file) > maxFileName || file != filepath.Base(s.Path("refs", "names", file)) && ref != "" && ref != "." && ref != ".." {
			t.Fatalf("%q is kept in %q", ref, file)
		}
		if !utf8.ValidString(ref) || ref == "" || ref == "." || ref == ".." {
			return // no name of an image
		}
		setName(t, s.Names(), ref, "1")
		if n, err := s.Names().Get(ref); err != nil || n.Ref != ref {
			t.Errorf("%q comes back as %q, %v", ref, n.Ref, err)
		}
		if err := s.Names().Remove(ref); err != nil {
			t.Error(err)
		}
	})
}

// A name that is given again is dated, and not written again.
func TestNameGivenAgain(t *testing.T) {
	names := newStore(t).Names()
	const app = "docker.io/library/app:latest"
	state := func() (os.FileInfo, time.Time) {
		info, err := os.Stat(names.path(app))
		n, getErr := names.Get(app)
		if err := errors.Join(err, getErr); err != nil {
			t.Fatal(err)
		}
		return info, n.Updated
	}
	setName(t, names, app, "1")
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(names.path(app), past, past); err != nil {
		t.Fatal(err)
	}
	first, given := state()
	if !given.After(past.Add(time.Minute)) {
		t.Errorf("the file says when it was given: %v", given)
	}
	setName(t, names, app, "1")
	second, again := state()
	if !os.SameFile(first, second) || !again.After(given) {
		t.Errorf("given at %v and again at %v, the same file: %t", given, again, os.SameFile(first, second))
	}
	setName(t, names, app, "2")
	if third, _ := state(); os.SameFile(second, third) {
		t.Error("a name that moves is changed in its place")
	}
}
