package cachemount

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// newMounts are those of an empty store, and of the same store for another process.
func newMounts(t *testing.T) (m, other *Mounts) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "store")
	var both []*Mounts
	for range 2 {
		s, err := store.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, New(s))
	}
	return both[0], both[1]
}

// files is initial content that belongs to the user: a file with its own name as content for each name.
func files(t *testing.T, names ...string) func() (view.View, error) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return func() (view.View, error) {
		v, err := view.Dir(dir, view.DirOptions{})
		return owned{v}, err
	}
}

// owned is a view whose root belongs to the user, too: only root can make what belongs to others.
type owned struct{ view.View }

func (o owned) Lstat(ctx context.Context, name string) (*view.Entry, error) {
	e, err := o.View.Lstat(ctx, name)
	if err != nil {
		return nil, err
	}
	e = e.Clone()
	e.UID, e.GID = os.Getuid(), os.Getgid()
	return e, nil
}

// locked locks caches.
func locked(t *testing.T, m *Mounts, wanted map[string]pb.CacheSharingOpt) *Locks {
	t.Helper()
	l, err := m.Lock(t.Context(), wanted)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestName(t *testing.T) {
	t.Parallel()
	a, b := digest.FromString("a"), digest.FromString("b")
	seen := map[string]bool{}
	for _, name := range []string{
		Name("id", nil), Name("other", nil), Name("", nil), Name("id", []digest.Digest{a}), Name("id", []digest.Digest{a, b}),
		Name("id", []digest.Digest{b, a}), Name("id\n"+a.String(), nil),
	} {
		if seen[name] || filepath.Base(name) != name {
			t.Errorf("%s is no name, or another cache's", name)
		}
		seen[name] = true
	}
	if got := Name("id", nil); got != "e889b07b59dade60a97b60c77d4ff52d75e542f89ca70543953af5f05c575da1" {
		t.Errorf("the caches of earlier versions have other names than %s", got)
	}
}

// TestOpen: a cache has its initial content once, and keeps what is written.
func TestOpen(t *testing.T) {
	t.Parallel()
	m, other := newMounts(t)
	dir, err := m.Open(t.Context(), "name", "the id", files(t, "first"))
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "first")); err != nil || string(data) != "first" {
		t.Errorf("%q, %v", data, err)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "first")), os.WriteFile(filepath.Join(dir, "second"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	again, err := other.Open(t.Context(), "name", "the id", func() (view.View, error) { return nil, errors.New("made twice") })
	if err != nil || again != dir {
		t.Errorf("%s, %v", again, err)
	}
	names, err := os.ReadDir(again)
	if err != nil || len(names) != 1 || names[0].Name() != "second" {
		t.Errorf("%v, %v", names, err)
	}
	fault := errors.New("a fault")
	if _, err := m.Open(t.Context(), "bad", "", func() (view.View, error) { return nil, fault }); !errors.Is(err, fault) {
		t.Errorf("%v", err)
	}
	if list, err := m.List(); err != nil || len(list) != 1 {
		t.Errorf("a cache that could not be made is listed: %v, %v", list, err)
	}
}

// TestOpenAtTheSameTime: processes that share a new cache make it together, and all get the same directory.
func TestOpenAtTheSameTime(t *testing.T) {
	t.Parallel()
	m, other := newMounts(t)
	var wg sync.WaitGroup
	dirs, initial := make([]string, 8), files(t)
	for i := range dirs {
		wg.Go(func() {
			from := []*Mounts{m, other}[i%2]
			var err error
			if dirs[i], err = from.Open(t.Context(), "name", "id", initial); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(slices.Compact(dirs)) != 1 {
		t.Errorf("%q", dirs)
	}
}

// TestSharing: who may have a cache beside another process that has it.
func TestSharing(t *testing.T) {
	t.Parallel()
	const shared, private, exclusive = pb.CacheSharingOpt_SHARED, pb.CacheSharingOpt_PRIVATE, pb.CacheSharingOpt_LOCKED
	for _, c := range []struct {
		first, second pb.CacheSharingOpt
		want          string // of the second; "" if it waits
	}{
		{shared, shared, "name"}, {shared, exclusive, ""}, {exclusive, shared, ""}, {exclusive, exclusive, ""},
		{private, private, "name-1"}, {shared, private, "name-1"}, {exclusive, private, "name-1"}, {private, shared, ""},
	} {
		m, other := newMounts(t)
		first := locked(t, m, map[string]pb.CacheSharingOpt{"name": c.first})
		if got := first.Name("name"); got != "name" {
			t.Errorf("%s alone has %s", c.first, got)
		}
		if c.want == "" {
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // a lock that is free is taken all the same
			if l, err := other.Lock(ctx, map[string]pb.CacheSharingOpt{"name": c.second}); !errors.Is(err, context.Canceled) {
				t.Errorf("%s beside %s: %v, %v", c.second, c.first, l, err)
			}
			if err := first.Unlock(); err != nil {
				t.Error(err)
			}
			c.want = "name"
		}
		second := locked(t, other, map[string]pb.CacheSharingOpt{"name": c.second})
		if got := second.Name("name"); got != c.want {
			t.Errorf("%s after %s has %s, want %s", c.second, c.first, got, c.want)
		}
		if err := second.Unlock(); err != nil {
			t.Error(err)
		}
	}
}

// TestLocksAreReleasedAfterAnError: a step that cannot have all its caches keeps none.
func TestLocksAreReleasedAfterAnError(t *testing.T) {
	t.Parallel()
	m, other := newMounts(t)
	_, err := m.Lock(t.Context(), map[string]pb.CacheSharingOpt{"a": pb.CacheSharingOpt_LOCKED, "b": 9})
	if err == nil || err.Error() != "cache mount: sharing mode 9 is not supported" {
		t.Errorf("%v", err)
	}
	if err := locked(t, other, map[string]pb.CacheSharingOpt{"a": pb.CacheSharingOpt_LOCKED}).Unlock(); err != nil {
		t.Error(err)
	}
}

func TestListAndRemove(t *testing.T) {
	t.Parallel()
	m, other := newMounts(t)
	if list, err := m.List(); err != nil || list != nil {
		t.Errorf("an empty store: %v, %v", list, err)
	}
	for i, name := range []string{"b", "a", "c"} {
		dir, err := m.Open(t.Context(), name, "id of "+name, files(t))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i-10) * time.Hour)
		err = errors.Join(os.WriteFile(filepath.Join(dir, "f"), make([]byte, 10_000*(i+1)), 0o600), os.Chtimes(filepath.Dir(dir), at, at))
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Open(t.Context(), "b", "id of b", files(t)); err != nil { // uses it
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.store.Path(mountsDir), "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := other.List()
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	for i, want := range []struct {
		name string
		size int64
	}{{"a", 20_000}, {"c", 30_000}, {"b", 10_000}} {
		if got := list[i]; got.Name != want.name || got.ID != "id of "+want.name || got.Size < want.size {
			t.Errorf("%d: %+v, want %+v", i, got, want)
		}
	}
	use := locked(t, m, map[string]pb.CacheSharingOpt{"a": pb.CacheSharingOpt_SHARED})
	if ok, err := other.Remove(list[0]); ok || err != nil {
		t.Errorf("removed while it is used: %t, %v", ok, err)
	}
	if err := use.Unlock(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if ok, err := other.Remove(list[0]); !ok || err != nil {
			t.Errorf("not removed: %t, %v", ok, err)
		}
	}
	if list, err := m.List(); err != nil || len(list) != 2 {
		t.Errorf("left: %v, %v", list, err)
	}
}
