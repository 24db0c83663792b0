package cachemount

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// TestDiscard: the caches with an ID are taken away, private ones too, but for one that is used, those of other IDs, and the files of clients.
func TestDiscard(t *testing.T) {
	t.Parallel()
	client, clientID := ClientFiles("context", "key")
	initial := []digest.Digest{digest.FromString("layer")}
	all := map[string]struct{ name, id string }{
		"plain": {Name("id", nil), "id"}, "private": {Name("id", nil) + "-1", "id"}, "used": {Name("id", nil) + "-2", "id"},
		"initial": {Name("id", initial), "id"}, "initial private": {Name("id", initial) + "-1", "id"}, "other": {Name("other", nil), "other"},
		"other initial": {Name("other", initial), "other"}, "client": {client, clientID},
	}
	for name, c := range map[string]struct {
		id      string
		initial bool
		taken   []string
	}{
		"plain":   {"id", false, []string{"plain", "private"}},
		"initial": {"id", true, []string{"initial", "initial private"}},
		"unknown": {"unknown", true, nil},
		"client":  {clientID, true, nil},
		"empty":   {"", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, other := newMounts(t)
			if taken, err := m.Discard(c.id, c.initial); err != nil || taken != nil {
				t.Fatalf("an empty store: %v, %v", taken, err)
			}
			for _, d := range all {
				if _, err := m.Open(t.Context(), d.name, d.id, files(t)); err != nil {
					t.Fatal(err)
				}
			}
			use := locked(t, other, map[string]pb.CacheSharingOpt{all["used"].name: pb.CacheSharingOpt_SHARED})
			taken, err := m.Discard(c.id, c.initial)
			if err != nil {
				t.Fatal(err)
			}
			for _, tmp := range taken {
				err = errors.Join(err, tmp.Remove())
			}
			if err = errors.Join(err, use.Unlock()); err != nil {
				t.Fatal(err)
			}
			var gone []string
			for which, d := range all {
				if _, err := os.Lstat(filepath.Join(m.dir(d.name), dataName)); errors.Is(err, os.ErrNotExist) {
					gone = append(gone, which)
				}
			}
			slices.Sort(gone)
			slices.Sort(c.taken)
			if diff := cmp.Diff(c.taken, gone); diff != "" {
				t.Error(diff)
			}
		})
	}
}
