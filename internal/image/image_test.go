package image

import (
	"errors"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/store"
)

func TestFind(t *testing.T) {
	s := newImages(t)
	a := add(t, s, 1, nil, "nginx", "registry.example:5000/team/app:v1")
	add(t, s, 2, nil, "other")
	hex := a.ID.Encoded()
	for _, ref := range []string{
		"nginx", "nginx:latest", "library/nginx", "docker.io/library/nginx:latest", "registry.example:5000/team/app:v1", a.ID.String(), hex, hex[:12], "sha256:" + hex[:10],
		"nginx@" + a.Target.Digest.String(), a.Target.Digest.String(),
	} {
		if got, err := s.Find(t.Context(), ref); err != nil || got.ID != a.ID {
			t.Errorf("%s: %v", ref, err)
		}
	}
	var missing *NotFoundError
	for _, ref := range []string{"nope", "nginx:1", "sha256:" + strings.Repeat("0", 64), strings.Repeat("f", 64)} {
		if _, err := s.Find(t.Context(), ref); !errors.As(err, &missing) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	var invalid *InvalidReferenceError
	for _, ref := range []string{"", "UPPER", "a:b:c", "a b", "../x"} {
		if _, err := s.Find(t.Context(), ref); !errors.As(err, &invalid) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestAmbiguousPrefix(t *testing.T) {
	s := newImages(t)
	seen := map[byte]bool{}
	for i := range 17 {
		id := add(t, s, i, nil).ID.Encoded()
		if !seen[id[0]] {
			seen[id[0]] = true
			continue
		}
		var ambiguous *AmbiguousError
		if _, err := s.Find(t.Context(), id[:1]); !errors.As(err, &ambiguous) {
			t.Errorf("%s: %v", id[:1], err)
		}
		return
	}
}

func TestListAndFilters(t *testing.T) {
	s := newImages(t)
	add(t, s, 30, map[string]string{"tier": "web"}, "old")
	add(t, s, 10, map[string]string{"tier": "db"}, "mid:1", "mid:2", "x/y")
	add(t, s, 1, nil)
	all := []string{"dangling", "label", "label!", "before", "since", "reference", "until"}
	for conditions, want := range map[string]string{
		"":                              "<none> mid:1 mid:2 x/y:latest old:latest",
		"dangling=true":                 "<none>",
		"dangling=false":                "mid:1 mid:2 x/y:latest old:latest",
		"label=tier":                    "mid:1 mid:2 x/y:latest old:latest",
		"label=tier=web":                "old:latest",
		"label!=tier=web":               "<none> mid:1 mid:2 x/y:latest",
		"before=mid:1":                  "old:latest",
		"since=mid:1":                   "<none>",
		"since=old before=mid:1":        "",
		"reference=mid":                 "mid:1 mid:2",
		"reference=*:1":                 "mid:1",
		"reference=*/*":                 "x/y:latest",
		"reference=old reference=mid:2": "mid:2 old:latest",
		"until=480h":                    "old:latest",
	} {
		f, err := s.NewFilter(t.Context(), strings.Fields(conditions), all...)
		if err != nil {
			t.Errorf("%s: %v", conditions, err)
			continue
		}
		images, err := s.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, img := range images {
			if names, ok := f.Match(img); ok && len(names) == 0 {
				got = append(got, "<none>")
			} else if ok {
				got = append(got, names...)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", conditions, got, want)
		}
	}
	for _, bad := range []string{"nope=1", "dangling=maybe", "before=nope", "until=never", "reference=["} {
		if _, err := s.NewFilter(t.Context(), []string{bad}, all...); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestRemove(t *testing.T) {
	s := newImages(t)
	img := add(t, s, 1, nil, "a", "b:1", "c/d")
	lines := func(ref string, force bool) string {
		t.Helper()
		removed, err := s.Remove(t.Context(), ref, force)
		if err != nil {
			return err.Error()
		}
		var list []string
		for _, r := range removed {
			list = append(list, r.Untagged+r.Deleted)
		}
		return strings.Join(list, " ")
	}
	if got := lines("a", false); got != "a:latest" {
		t.Errorf("a name: %s", got)
	}
	if got := lines(img.ID.String(), false); !strings.HasPrefix(got, "conflict: unable to delete "+img.ShortID()) {
		t.Errorf("an ID with two names: %s", got)
	}
	hold, err := s.Hold(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	if got := lines(img.ID.String(), true); !strings.Contains(got, "is being used by running container") {
		t.Errorf("what runs: %s", got)
	}
	if err := hold.Unlock(); err != nil {
		t.Fatal(err)
	}
	if got := lines(img.ID.String(), true); !strings.HasPrefix(got, "c/d:latest b:1 "+img.ID.String()) {
		t.Errorf("by force: %s", got)
	}
	if _, err := s.Find(t.Context(), img.ID.String()); err == nil {
		t.Error("it is still there")
	}
	if freed := collect(t, s, nil); freed == 0 {
		t.Error("collected nothing")
	}
	if left, err := s.layers.All(); err != nil || len(left) > 0 {
		t.Errorf("layers left: %v %v", left, err)
	}
}

// collect removes what nothing needs, as another process would.
func collect(t *testing.T, s *Images, keep []digest.Digest) (freed int64) {
	t.Helper()
	other, err := store.Open(s.store.Root())
	if err != nil {
		t.Fatal(err)
	}
	w, err := other.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = New(other, layer.New(other)).Collect(t.Context(), w, func() ([]digest.Digest, error) { return keep, nil })
	freed, endErr := w.End(t.Context())
	if err := errors.Join(err, endErr); err != nil {
		t.Fatal(err)
	}
	return freed
}

// A process that ends between the looks of a sweep has given names to what it made: the second look finds them.
func TestCollectLooksTwice(t *testing.T) {
	s := newImages(t)
	img := add(t, s, 1, nil)
	target := img.Target
	if _, err := s.Remove(t.Context(), img.ID.String(), false); err != nil {
		t.Fatal(err)
	}
	w, err := s.store.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	looks := 0
	err = s.Collect(t.Context(), w, func() ([]digest.Digest, error) {
		if looks++; looks == 2 {
			return nil, s.store.Names().Set("docker.io/library/new:latest", target, img.ID)
		}
		return nil, nil
	})
	if _, endErr := w.End(t.Context()); err != nil || endErr != nil || looks != 2 {
		t.Errorf("%v, %v, looked %d times", err, endErr, looks)
	}
	if _, err := s.Find(t.Context(), "new"); err != nil {
		t.Error(err)
	}
	if err := s.layers.Verify(t.Context(), img.Chain()[0]); err != nil {
		t.Error(err)
	}
}

func TestCollectKeepsWhatIsNeeded(t *testing.T) {
	s := newImages(t)
	kept, dangling := add(t, s, 1, nil, "kept"), add(t, s, 2, nil)
	gone := add(t, s, 3, nil)
	cached := gone.Chain()
	if _, err := s.Remove(t.Context(), gone.ID.String(), false); err != nil {
		t.Fatal(err)
	}
	collect(t, s, cached)
	for _, id := range append(append(cached, kept.Chain()...), dangling.Chain()...) {
		if err := s.layers.Verify(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Prune(t.Context(), false, &Filter{}); err != nil {
		t.Fatal(err)
	}
	if images, err := s.List(t.Context()); err != nil || len(images) != 1 || images[0].ID != kept.ID {
		t.Errorf("%v %v", images, err)
	}
}

// What a process has looked up stays whole, though it has not looked at its parts, whatever others remove.
func TestCollectBesideWhoUsesAnImage(t *testing.T) {
	s := newImages(t)
	img, other := add(t, s, 1, nil, "used"), add(t, s, 2, nil, "unused")
	use, err := s.store.Use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if root, err := s.Root(t.Context(), "used"); err != nil || root.Digest != img.Target.Digest {
		t.Fatalf("%v %v", root, err)
	}
	host, err := store.Open(s.store.Root())
	if err != nil {
		t.Fatal(err)
	}
	others := New(host, layer.New(host))
	if lines, err := others.Prune(t.Context(), true, &Filter{}); err != nil || len(lines) != 3 || lines[0].Untagged != "unused:latest" {
		t.Errorf("pruned: %v %v", lines, err)
	}
	if _, err := others.Remove(t.Context(), "used", false); err != nil {
		t.Fatal(err)
	}
	collect(t, s, nil)
	if err := s.layers.Verify(t.Context(), img.Chain()[0]); err != nil {
		t.Errorf("the layer of what is used: %v", err)
	}
	if _, err := s.load(img.Target); err != nil {
		t.Errorf("what is used: %v", err)
	}
	if _, err := host.StatBlob(other.Target.Digest); err == nil {
		t.Error("what nobody uses is still there")
	}
	if err := use.End(); err != nil {
		t.Error(err)
	}
	collect(t, s, nil)
	if _, err := s.load(img.Target); err == nil {
		t.Error("what nobody uses any more is still there")
	}
}

// What is left of an image for another platform, whose config is gone, does not keep the rest from being collected.
func TestCollectWithPartOfAnIndexMissing(t *testing.T) {
	s := newImages(t)
	_, here, other := twoPlatforms(t, s, "docker.io/library/multi:1")
	gone := add(t, s, 3, nil)
	_, err := s.Remove(t.Context(), gone.ID.String(), false)
	if err = errors.Join(err, s.store.Records().Remove(other.ID.String()), s.store.RemoveBlob(other.ID)); err != nil {
		t.Fatal(err)
	}
	collect(t, s, nil)
	if _, err := s.store.StatBlob(gone.Target.Digest); err == nil {
		t.Error("nothing was collected")
	}
	if img, err := s.Find(t.Context(), "multi:1"); err != nil || img.ID != here.ID {
		t.Errorf("the image for this host: %v", err)
	}
}

// An image of which a process uses the index alone, or another platform, is not pruned.
func TestPruneBesideWhoUsesAnIndex(t *testing.T) {
	s := newImages(t)
	root, here, _ := twoPlatforms(t, s, "docker.io/library/multi:1")
	other, err := store.Open(s.store.Root())
	if err != nil {
		t.Fatal(err)
	}
	use, err := other.Use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other.Hold(store.HeldBlob, root.Digest)
	if lines, err := s.Prune(t.Context(), true, &Filter{}); err != nil || len(lines) > 0 {
		t.Errorf("pruned: %v %v", lines, err)
	}
	if err := use.End(); err != nil {
		t.Fatal(err)
	}
	if lines, err := s.Prune(t.Context(), true, &Filter{}); err != nil || len(lines) == 0 {
		t.Errorf("not pruned: %v", err)
	}
	if _, err := s.Find(t.Context(), here.ID.String()); err == nil {
		t.Error("it is still there")
	}
}

// An image that gets its name while images are pruned is not one without a name.
func TestPruneOfWhatIsBeingNamed(t *testing.T) {
	s := newImages(t)
	img := add(t, s, 1, nil)
	if err := s.Tag(t.Context(), img, "named"); err != nil { // after it was listed without one
		t.Fatal(err)
	}
	if lines, err := s.prune(t.Context(), img.ID, false); err != nil || len(lines) > 0 {
		t.Errorf("pruned: %v %v", lines, err)
	}
	if _, err := s.Find(t.Context(), "named"); err != nil {
		t.Error(err)
	}
}

func TestTagMovesAName(t *testing.T) {
	s := newImages(t)
	a, b := add(t, s, 1, nil, "x"), add(t, s, 2, nil)
	if err := s.Tag(t.Context(), b, "x"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Find(t.Context(), "x"); err != nil || got.ID != b.ID {
		t.Errorf("x is %v %v", got, err)
	}
	if got, err := s.FindNamed(t.Context(), a.ID.String(), nil); err != nil || len(got.Names) != 0 {
		t.Errorf("what had the name: %v %v", got, err)
	}
	for _, bad := range []string{"", "UPPER", "x:-y", "x@" + a.ID.String(), strings.Repeat("0", 64)} {
		if err := s.Tag(t.Context(), a, bad); err == nil {
			t.Errorf("%q is a name", bad)
		}
	}
}

func TestFamiliar(t *testing.T) {
	for _, name := range []string{
		"docker.io/library/a:1", "docker.io/a/b:1", "docker.io/library/a/b:1", "docker.io/library/a@" + digest.FromString("").String(),
		"localhost:5000/a@" + digest.FromString("").String(), "localhost:5000/library/a:1", "registry.example.org/docker.io/library/a:1",
	} {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := familiar(name), reference.FamiliarString(named); got != want {
			t.Errorf("%s is called %s, want %s", name, got, want)
		}
	}
}
