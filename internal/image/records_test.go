package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/store"
)

// overwrite writes text over the files of names and records that have a string in their path or content.
func overwrite(s *Images, has string, text string) error {
	found := 0
	err := filepath.WalkDir(s.store.Path("refs"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil || !strings.Contains(path+string(raw), has) {
			return err
		}
		found++
		return os.WriteFile(path, []byte(text), 0o600)
	})
	if err == nil && found == 0 {
		err = fmt.Errorf("no file of %s", has)
	}
	return err
}

// TestListWithDamage: images that are damaged are named in the error, the others are listed.
func TestListWithDamage(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(s *Images, img, other *Image) error{
		"manifest":          func(s *Images, img, _ *Image) error { return s.store.RemoveBlob(img.Target.Digest) },
		"config":            func(s *Images, img, _ *Image) error { return s.store.RemoveBlob(img.ID) },
		"record of another": func(s *Images, img, other *Image) error { return s.store.Records().Set(img.ID.String(), other.Target) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newImages(t)
			whole, damaged := add(t, s, 1, nil, "whole"), add(t, s, 2, nil, "damaged")
			if err := damage(s, damaged, whole); err != nil {
				t.Fatal(err)
			}
			images, err := s.List(t.Context())
			if len(images) != 1 || images[0].ID != whole.ID {
				t.Errorf("listed %v", images)
			}
			if err == nil || !strings.Contains(err.Error(), "image "+damaged.ID.String()+": ") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestListIsCancelled(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	add(t, s, 1, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if images, err := s.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", images, err)
	}
}

// TestNamesOfAnImage: tags and names by digest, sorted, and the time of the last.
func TestNamesOfAnImage(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	start := time.Now().Add(-time.Second)
	img := add(t, s, 1, nil, "b", "a:1", "registry.example/x")
	byDigest := "docker.io/library/b@" + img.Target.Digest.String()
	if _, err := s.Keep(t.Context(), img.Target, byDigest); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"b", img.ID.String(), "b@" + img.Target.Digest.String()} {
		got, err := s.FindNamed(t.Context(), ref, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Names, []string{"a:1", "b:latest", "registry.example/x:latest"}) || !slices.Equal(got.Digests, []string{"b@" + img.Target.Digest.String()}) || got.Tagged.Before(start) {
			t.Errorf("%s: %v, %v, %v", ref, got.Names, got.Digests, got.Tagged)
		}
	}
	unnamed := add(t, s, 2, nil)
	if got, err := s.FindNamed(t.Context(), unnamed.ID.String(), nil); err != nil || len(got.Names)+len(got.Digests) > 0 || !got.Tagged.IsZero() {
		t.Errorf("without a name: %+v, %v", got, err)
	}
	if got, err := s.FindNamed(t.Context(), "none", nil); !IsMissing(err) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestRemovals are the lines of docker rmi for images, names and what they share.
func TestRemovals(t *testing.T) {
	t.Parallel()
	type state struct {
		s          *Images
		a, b, c    *Image
		base, x, y digest.Digest
	}
	setUp := func(t *testing.T) state {
		t.Helper()
		st := state{s: newImages(t)}
		st.base, st.x, st.y = addLayer(t, st.s, "base"), addLayer(t, st.s, "x"), addLayer(t, st.s, "y")
		st.a = addImage(t, st.s, map[string]any{"author": "a"}, []digest.Digest{st.base, st.x}, "a:1", "a:2", "b:1")
		st.b = addImage(t, st.s, map[string]any{"author": "b"}, []digest.Digest{st.base, st.y}, "c")
		st.c = addImage(t, st.s, map[string]any{"author": "c"}, []digest.Digest{st.base})
		for _, n := range []string{"docker.io/library/a", "docker.io/library/b"} {
			if _, err := st.s.Keep(t.Context(), st.a.Target, n+"@"+st.a.Target.Digest.String()); err != nil {
				t.Fatal(err)
			}
		}
		return st
	}
	for name, test := range map[string]struct {
		refs  func(state) []string
		force bool
		want  func(state) []string // of the last
		err   string
	}{
		"a tag of several": {func(state) []string { return []string{"a:1"} }, false, func(state) []string { return []string{"a:1"} }, ""},
		"the last tag of a repository takes the names by digest": {
			func(state) []string { return []string{"a:1", "a:2"} }, false,
			func(st state) []string { return []string{"a:2", "a@" + st.a.Target.Digest.String()} }, "",
		},
		"the last name takes the image, but not the base that others have": {
			func(state) []string { return []string{"a:1", "a:2", "b:1"} }, false,
			func(st state) []string {
				return []string{"b:1", "b@" + st.a.Target.Digest.String(), st.a.ID.String(), digest.FromString(st.base.String() + " " + st.x.String()).String()}
			}, "",
		},
		"the only name": {
			func(state) []string { return []string{"c:latest"} }, false,
			func(st state) []string {
				return []string{"c:latest", st.b.ID.String(), digest.FromString(st.base.String() + " " + st.y.String()).String()}
			}, "",
		},
		"an ID with one name": {
			func(st state) []string { return []string{st.b.ShortID()} }, false,
			func(st state) []string {
				return []string{"c:latest", st.b.ID.String(), digest.FromString(st.base.String() + " " + st.y.String()).String()}
			}, "",
		},
		"an ID without a name": {
			func(st state) []string { return []string{st.c.ID.String()} }, false, func(st state) []string { return []string{st.c.ID.String()} }, "",
		},
		"an ID with several names": {
			func(st state) []string { return []string{st.a.ID.String()} }, false, nil, "(must be forced) - image is referenced in multiple repositories",
		},
		"an ID by force": {
			func(st state) []string { return []string{st.a.ID.Encoded()} }, true,
			func(st state) []string {
				d := st.a.Target.Digest.String()
				return []string{"a:1", "a:2", "a@" + d, "b:1", "b@" + d, st.a.ID.String(), digest.FromString(st.base.String() + " " + st.x.String()).String()}
			}, "",
		},
		"a digest": {
			func(st state) []string { return []string{"a@" + st.a.Target.Digest.String()} }, false,
			func(st state) []string { return []string{"a@" + st.a.Target.Digest.String()} }, "",
		},
		"nothing":     {func(state) []string { return []string{"none"} }, false, nil, "No such image: none:latest"},
		"no name":     {func(state) []string { return []string{"A"} }, false, nil, "invalid reference"},
		"gone before": {func(state) []string { return []string{"c", "c"} }, false, nil, "No such image: c:latest"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := setUp(t)
			var removed []Removed
			var err error
			for _, ref := range test.refs(st) {
				removed, err = st.s.Remove(t.Context(), ref, test.force)
			}
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %s", err, test.err)
				}
				return
			}
			if want := test.want(st); err != nil || !slices.Equal(lines(removed), want) {
				t.Errorf("%v, %v; want %v", lines(removed), err, want)
			}
		})
	}
}

// TestRemoveIndex removes every image of an index, unless another name has it.
func TestRemoveIndex(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(t *testing.T, s *Images, root ocispec.Descriptor, here, other *Image)
		left    func(here, other *Image) []digest.Digest
	}{
		"alone": {func(*testing.T, *Images, ocispec.Descriptor, *Image, *Image) {}, func(_, _ *Image) []digest.Digest { return nil }},
		"another index has one": {
			func(t *testing.T, s *Images, _ ocispec.Descriptor, _, other *Image) {
				t.Helper()
				if _, err := s.Keep(t.Context(), index(t, s, other.Target), "docker.io/library/second:1"); err != nil {
					t.Fatal(err)
				}
			},
			func(_, other *Image) []digest.Digest { return []digest.Digest{other.ID} },
		},
		"a tag has one": {
			func(t *testing.T, s *Images, _ ocispec.Descriptor, _, other *Image) {
				t.Helper()
				if err := s.Tag(t.Context(), &Image{ID: other.ID}, "own"); err != nil {
					t.Fatal(err)
				}
			},
			func(_, other *Image) []digest.Digest { return []digest.Digest{other.ID} },
		},
		"another name has the index": {
			func(t *testing.T, s *Images, root ocispec.Descriptor, _, _ *Image) {
				t.Helper()
				if _, err := s.Keep(t.Context(), root, "docker.io/library/second:1"); err != nil {
					t.Fatal(err)
				}
			},
			func(here, other *Image) []digest.Digest { return []digest.Digest{here.ID, other.ID} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newImages(t)
			root, here, other := twoPlatforms(t, s, "docker.io/library/multi:1")
			test.prepare(t, s, root, here, other)
			removed, err := s.Remove(t.Context(), "multi:1", false)
			if err != nil || !strings.HasPrefix(strings.Join(lines(removed), " "), "multi:1 multi@"+root.Digest.String()) {
				t.Errorf("%v, %v", lines(removed), err)
			}
			if got := ids(t, s); !sameSet(got, test.left(here, other)) {
				t.Errorf("left %v", got)
			}
		})
	}
}

// TestRemoveDamaged: names and records that cannot be read can be removed.
func TestRemoveDamaged(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	img := add(t, s, 1, nil, "damaged", "whole")
	if err := overwrite(s, "library/damaged", "{"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(t.Context(), "damaged"); !errors.Is(err, store.ErrDamaged) {
		t.Fatalf("find: %v", err)
	}
	if removed, err := s.Remove(t.Context(), "damaged", false); err != nil || !slices.Equal(lines(removed), []string{"damaged:latest"}) {
		t.Errorf("%v, %v", lines(removed), err)
	}
	if _, err := s.Find(t.Context(), "damaged"); !IsMissing(err) {
		t.Errorf("find: %v", err)
	}
	if got, err := s.Find(t.Context(), "whole"); err != nil || got.ID != img.ID {
		t.Errorf("the other name: %v", err)
	}
	unnamed := add(t, s, 2, nil)
	if err := overwrite(s, unnamed.ID.Encoded(), "{"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{unnamed.ShortID(), "none"} {
		if removed, err := s.Remove(t.Context(), ref, true); err == nil {
			t.Errorf("%s: %v", ref, lines(removed))
		}
	}
	if removed, err := s.Remove(t.Context(), unnamed.ID.String(), false); err != nil || !slices.Equal(lines(removed), []string{unnamed.ID.String()}) {
		t.Errorf("%v, %v", lines(removed), err)
	}
	if got := ids(t, s); !slices.Equal(got, []digest.Digest{img.ID}) {
		t.Errorf("left %v", got)
	}
}

// TestHoldRemoved: an image that another process has removed cannot be held.
func TestHoldRemoved(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	img := add(t, s, 1, nil)
	if _, err := s.Remove(t.Context(), img.ID.String(), false); err != nil {
		t.Fatal(err)
	}
	if lock, err := s.Hold(t.Context(), img); !IsMissing(err) {
		t.Errorf("%v, %v", lock, err)
	}
	if err := s.Tag(t.Context(), img, "late"); !IsMissing(err) {
		t.Errorf("tag: %v", err)
	}
}

func TestUses(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	_, here, other := twoPlatforms(t, s, "docker.io/library/multi:1")
	lock, err := s.Hold(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Unlock() }()
	uses, err := s.Uses(t.Context())
	if err != nil || len(uses) != 2 {
		t.Fatalf("%v, %v", uses, err)
	}
	for _, u := range uses {
		running := slices.Equal(u.Layers, other.Chain())
		if u.Running != running || !running && !slices.Equal(u.Layers, here.Chain()) {
			t.Errorf("%+v", u)
		}
	}
}

// TestPruneFilters: which images a prune removes.
func TestPruneFilters(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		all     bool
		filters []string
		left    string
	}{
		"dangling":           {false, nil, "db web"},
		"all":                {true, nil, "running"},
		"all, by label":      {true, []string{"label=tier"}, "<none> running"},
		"all, without label": {true, []string{"label!=tier=web"}, "running web"},
		"all, by time":       {true, []string{"until=480h"}, "<none> running web"},
		"dangling, by time":  {false, []string{"until=480h"}, "<none> db running web"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newImages(t)
			add(t, s, 30, map[string]string{"tier": "db"}, "db")
			add(t, s, 1, map[string]string{"tier": "web"}, "web")
			add(t, s, 2, nil)
			lock, err := s.Hold(t.Context(), add(t, s, 40, nil, "running"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = lock.Unlock() }()
			f, err := s.NewFilter(t.Context(), test.filters, "label", "label!", "until")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Prune(t.Context(), test.all, f); err != nil {
				t.Fatal(err)
			}
			images, err := s.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, img := range images {
				if len(img.Names) == 0 {
					left = append(left, "<none>")
				}
				for _, n := range img.Names {
					left = append(left, strings.TrimSuffix(n, ":latest"))
				}
			}
			slices.Sort(left)
			want := strings.Fields(test.left)
			if !test.all && !slices.Contains(want, "running") {
				want = append(want, "running")
				slices.Sort(want)
			}
			if !slices.Equal(left, want) {
				t.Errorf("left %v, want %v", left, want)
			}
		})
	}
}

func TestParseUntil(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 5, 6, 7, 8, 9, 0, time.Local)
	for value, want := range map[string]time.Time{
		"1h":                        now.Add(-time.Hour),
		"1h30m":                     now.Add(-90 * time.Minute),
		"2024-01-02":                time.Date(2024, 1, 2, 0, 0, 0, 0, time.Local),
		"2024-01-02T03:04":          time.Date(2024, 1, 2, 3, 4, 0, 0, time.Local),
		"2024-01-02T03:04:05":       time.Date(2024, 1, 2, 3, 4, 5, 0, time.Local),
		"2024-01-02T03:04:05+02:00": time.Date(2024, 1, 2, 1, 4, 5, 0, time.UTC),
		"2024-01-02T03:04:05.5Z":    time.Date(2024, 1, 2, 3, 4, 5, 500_000_000, time.UTC),
		"2024":                      {},
		"1d":                        {},
		"":                          {},
		"yesterday":                 {},
	} {
		got, err := parseUntil(value, now)
		if (err != nil) != want.IsZero() || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", value, got, err, want)
		}
	}
}

func TestHasLabel(t *testing.T) {
	t.Parallel()
	img := &Image{}
	img.Config.Config.Labels = map[string]string{"a": "1", "empty": "", "equals": "x=y"}
	for condition, want := range map[string]bool{
		"a": true, "a=1": true, "a=2": false, "a=": false, "b": false, "b=": false, "empty": true, "empty=": true, "empty=x": false, "equals=x=y": true, "equals=x": false, "": false,
	} {
		if hasLabel(img, condition) != want {
			t.Errorf("%s: %t", condition, !want)
		}
	}
}

// TestCollectOfIndexes: what an index lists is kept, as far as it is in the store; an attestation with its blobs, too.
func TestCollectOfIndexes(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	img := add(t, s, 1, nil)
	statement, blobs := artifact(t, s, "statement")
	_, stray := artifact(t, s, "stray")
	root := index(t, s, forPlatform(img.Target, hostPlatform), attestation(statement), forPlatform(absent("x"), otherPlatform))
	if _, err := s.Keep(t.Context(), root, "docker.io/library/app:1"); err != nil {
		t.Fatal(err)
	}
	collect(t, s, nil)
	for _, d := range append(blobs, root.Digest, img.Target.Digest, img.ID) {
		if !hasBlob(s, d) {
			t.Errorf("%s is gone", d)
		}
	}
	for _, d := range stray {
		if hasBlob(s, d) {
			t.Errorf("%s, which no image needs, is still there", d)
		}
	}
	if err := s.layers.Verify(t.Context(), img.Chain()[0]); err != nil {
		t.Error(err)
	}
}

// TestCollectRefuses to discard anything while it cannot tell what is needed.
func TestCollectRefuses(t *testing.T) {
	t.Parallel()
	failed := errors.New("the build cache is damaged")
	for name, test := range map[string]struct {
		damage func(s *Images, img *Image) error
		keep   error
		want   string
	}{
		"cache":    {func(*Images, *Image) error { return nil }, failed, failed.Error()},
		"manifest": {func(s *Images, img *Image) error { return s.store.RemoveBlob(img.Target.Digest) }, nil, "nothing was pruned: image "},
		"config":   {func(s *Images, img *Image) error { return s.store.RemoveBlob(img.ID) }, nil, "remove the image first"},
		"name":     {func(s *Images, _ *Image) error { return overwrite(s, "library/app", "{") }, nil, "nothing was pruned: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newImages(t)
			img := add(t, s, 1, nil, "app")
			_, stray := artifact(t, s, "stray")
			if err := test.damage(s, img); err != nil {
				t.Fatal(err)
			}
			w, err := s.store.Sweep(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			err = s.Collect(t.Context(), w, func() ([]digest.Digest, error) { return nil, test.keep })
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
			if _, err := w.End(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !hasBlob(s, stray[0]) {
				t.Error("a blob was discarded")
			}
		})
	}
}

// TestCollectKeepsWhatIsHeld: the parts of a manifest, and of an index, that another process has only begun to name.
func TestCollectKeepsWhatIsHeld(t *testing.T) {
	t.Parallel()
	for name, held := range map[string]func(root, manifest digest.Digest) digest.Digest{
		"manifest": func(_, manifest digest.Digest) digest.Digest { return manifest },
		"index":    func(root, _ digest.Digest) digest.Digest { return root },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newImages(t)
			img := add(t, s, 1, nil)
			root := index(t, s, forPlatform(img.Target, hostPlatform))
			if err := s.store.Records().Remove(img.ID.String()); err != nil {
				t.Fatal(err)
			}
			other, err := store.Open(s.store.Root())
			if err != nil {
				t.Fatal(err)
			}
			use, err := other.Use(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			other.Hold(store.HeldBlob, held(root.Digest, img.Target.Digest))
			collect(t, s, nil)
			if _, err := s.load(img.Target); err != nil {
				t.Errorf("while it is held: %v", err)
			}
			if err := use.End(); err != nil {
				t.Fatal(err)
			}
			collect(t, s, nil)
			if hasBlob(s, img.Target.Digest) || hasBlob(s, img.ID) {
				t.Error("it is still there")
			}
		})
	}
}
