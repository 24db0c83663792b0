package stepcache

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/registry"
)

// prunable is a slowRepository from which manifests can be removed.
type prunable struct{ *slowRepository }

func (r *prunable) Manifest(ctx context.Context, tag string) (*registry.Manifest, error) {
	m, err := r.slowRepository.Manifest(ctx, tag)
	if err == nil {
		m.Descriptor.Digest = digest.FromBytes(m.Raw)
	}
	return m, err
}

func (r *prunable) Tags(context.Context) (tags []string, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for tag := range r.tags {
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	return tags, nil
}

func (r *prunable) Delete(_ context.Context, d ocispec.Descriptor) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for tag, raw := range r.tags {
		if digest.FromBytes(raw) == d.Digest {
			delete(r.tags, tag)
		}
	}
	return nil
}

// record writes the record of a step, with a key by definition and one by content.
func (r *prunable) record(t *testing.T, w *Writer, name string) (keys []digest.Digest) {
	t.Helper()
	rec := sample()
	rec.Keys, rec.Written = []digest.Digest{digest.FromString(name), digest.FromString(name + " by content")}, time.Now()
	if _, err := w.put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	return rec.Keys
}

const day = 24 * time.Hour

// TestPrune: a prune removes what is old and was not used since, by any of its keys, and leaves what is not its own.
func TestPrune(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := &prunable{newSlowRepository()}
		at.tags["latest"], at.tags["step-x"], at.tags[Tag(digest.FromString("other"))] = []byte("{}"), []byte("{}"), []byte("{}")
		w := leasing(t.Context(), at)
		old, used, other := at.record(t, w, "old"), at.record(t, w, "used"), at.record(t, w, "third")
		if err := w.Use(t.Context(), slices.Concat(old, used)); err != nil {
			t.Fatal(err)
		}
		if err := writeLease(t.Context(), at, old[0], leaseState{"x", leaseHeld, 1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * day)
		for _, keys := range [][]digest.Digest{{other[1], used[0], used[0]}, {used[0], other[1]}} { // the same list
			if err := w.Use(t.Context(), keys); err != nil {
				t.Fatal(err)
			}
		}
		recent := at.record(t, w, "recent")
		if err := writeLease(t.Context(), at, recent[0], leaseState{"x", leaseHeld, 1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * day)
		got, err := Prune(t.Context(), at, time.Now().Add(-7*day))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{Tag(old[0]), Tag(old[1])}
		slices.Sort(want)
		// Both tags are of one manifest: which of them is found depends on the order.
		if len(got.Removed) == 0 || got.Records != 9 || slices.ContainsFunc(got.Removed, func(tag string) bool { return !slices.Contains(want, tag) }) {
			t.Errorf("removed %q of %d, want %q", got.Removed, got.Records, want)
		}
		left, err := at.Tags(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stay := []string{"latest", "step-x", Tag(digest.FromString("other")), LeaseTag(recent[0])}
		for _, key := range slices.Concat(used, other, recent) {
			stay = append(stay, Tag(key))
		}
		for _, tag := range left {
			if _, ok := usedAt(tag); !ok && !slices.Contains(stay, tag) {
				t.Errorf("%s is left", tag)
			}
		}
		for _, tag := range stay {
			if !slices.Contains(left, tag) {
				t.Errorf("%s is gone", tag)
			}
		}
		if n := len(left) - len(stay); n != 1 {
			t.Errorf("%d lists are left, want the one of the last days", n)
		}
	})
}

// TestPruneOfUnknownUse: a list that cannot be read ends a prune before it removes anything.
func TestPruneOfUnknownUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := &prunable{newSlowRepository()}
		keys := at.record(t, leasing(t.Context(), at), "old")
		time.Sleep(20 * day)
		tag := usedPrefix + time.Now().UTC().Format(usedDay) + "-0123456789abcdef"
		for _, text := range []string{"", "{}", `{"artifactType":"` + UsedType + `","annotations":{"mica.step.keys":"x"}}`} {
			at.tags[tag] = []byte(text)
			if _, err := Prune(t.Context(), at, time.Now()); err == nil || at.tags[Tag(keys[0])] == nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
