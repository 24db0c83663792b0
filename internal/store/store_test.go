package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBlobs(t *testing.T) {
	s := open(t)
	w, err := s.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "content"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(digest.FromString("other")); !errors.Is(err, ErrDamaged) {
		t.Errorf("another digest: %v", err)
	}
	_ = w.Close()
	for b := range s.Blobs() {
		t.Errorf("a refused blob is there: %s", b.Digest)
	}
	id, err := s.WriteBlob([]byte("content"))
	if err != nil || id != digest.FromString("content") {
		t.Fatalf("%s %v", id, err)
	}
	if again, err := s.WriteBlob([]byte("content")); err != nil || again != id {
		t.Errorf("twice: %s %v", again, err)
	}
	if data, err := s.ReadBlob(id); err != nil || string(data) != "content" {
		t.Errorf("%q %v", data, err)
	}
	if n, err := s.StatBlob(id); err != nil || n != 7 {
		t.Errorf("size %d %v", n, err)
	}
	if _, err := s.ReadBlob(digest.FromString("missing")); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	for _, bad := range []digest.Digest{"", "sha256:..", "sha256:../../../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e", digest.Digest("sha512:" + strings.Repeat("0", 128))} {
		if _, err := s.OpenBlob(bad); err == nil {
			t.Errorf("%q is opened", bad)
		}
	}
	path := s.Path("blobs", "sha256", id.Encoded())
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("kontent"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadBlob(id); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged: %v", err)
	}
	r, err := s.VerifiedBlob(id)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := io.Copy(&bytes.Buffer{}, r); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged, streamed: %v", err)
	}
	if err := s.RemoveBlob(id); err != nil {
		t.Error(err)
	}
	if _, err := s.StatBlob(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
}

func TestLargeBlobIsNotReadWhole(t *testing.T) {
	s := open(t)
	id, err := s.WriteBlob(make([]byte, 5<<20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadBlob(id); err == nil {
		t.Error("a blob of 5 MiB is read as if it were JSON")
	}
}

func TestNames(t *testing.T) {
	s := open(t)
	target := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("m"), Size: 1}
	names := s.Names()
	hostile := []string{"../../../escape", "/etc/passwd", "a/b/c:d", "...", "x%2Fy", "with space", "name\nline"}
	for _, ref := range append(hostile, "docker.io/library/nginx:latest") {
		if err := names.Set(ref, target); err != nil {
			t.Fatalf("%q: %v", ref, err)
		}
		if n, err := names.Get(ref); err != nil || n.Ref != ref || n.Target.Digest != target.Digest {
			t.Errorf("%q: %+v %v", ref, n, err)
		}
	}
	if list, err := names.List(); err != nil || len(list) != len(hostile)+1 {
		t.Errorf("%d names, %v", len(list), err)
	}
	outside, err := filepath.Glob(filepath.Join(s.Root(), "..", "*"))
	if err != nil || len(outside) != 1 {
		t.Errorf("beside the store: %v", outside)
	}
	if _, err := names.Get("none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if _, err := names.Get(strings.Repeat("x", 5000)); !errors.Is(err, ErrNotFound) {
		t.Errorf("too long: %v", err)
	}
	if err := names.Set("..", target); err == nil {
		t.Error("a folder is a name")
	}
	if err := names.Remove("..."); err != nil {
		t.Error(err)
	}
	if _, err := s.Records().Get("docker.io/library/nginx:latest"); !errors.Is(err, ErrNotFound) {
		t.Errorf("names are records: %v", err)
	}
}

func TestLocks(t *testing.T) {
	s := open(t)
	a, err := s.Lock(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.TryLock("x"); ok || err != nil {
		t.Errorf("a held lock is given: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.RLock(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := a.Unlock(); err != nil {
		t.Fatal(err)
	}
	r1, err1 := s.RLock(t.Context(), "x")
	r2, err2 := s.RLock(t.Context(), "x")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if _, ok, _ := s.TryLock("x"); ok {
		t.Error("an exclusive lock beside shared ones")
	}
	if err := errors.Join(r1.Unlock(), r2.Unlock()); err != nil {
		t.Error(err)
	}
	use, err := s.Use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := s.TrySweep(); ok {
		t.Error("who sweeps does not mind who uses")
	}
	if err := use.Unlock(); err != nil {
		t.Error(err)
	}
	if l, ok, err := s.TrySweep(); !ok || err != nil {
		t.Error("nobody uses, and nobody may sweep")
	} else if err := l.Unlock(); err != nil {
		t.Error(err)
	}
	if err := s.RemoveLocks("x"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.Path("locks", "x")); !os.IsNotExist(err) {
		t.Error("the lock file is still there")
	}
}

func TestTemporaryFolders(t *testing.T) {
	s := open(t)
	mine, err := s.TempDir("test")
	if err != nil {
		t.Fatal(err)
	}
	// What a dead process leaves: a folder whose lock nobody holds, with modes that forbid much, and loose files.
	dead := s.Path("tmp", "dead-1")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dead, "a/b"), 0o700), os.WriteFile(dead+lockSuffix, nil, 0o600), os.Chmod(filepath.Join(dead, "a"), 0),
		os.WriteFile(s.Path("tmp", "file-loose"), []byte("x"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if freed, err := s.RemoveStaleTemp(); err != nil || freed == 0 {
		t.Errorf("freed %d, %v", freed, err)
	}
	left, err := os.ReadDir(s.Path("tmp"))
	if err != nil || len(left) != 2 { // mine and its lock
		t.Errorf("%v %v", left, err)
	}
	if _, err := os.Stat(mine.Path); err != nil {
		t.Error("a living process's folder is gone")
	}
	if err := mine.Remove(); err != nil {
		t.Error(err)
	}
}

func TestOtherFormat(t *testing.T) {
	s := open(t)
	if err := s.WriteFileAtomic(s.Path("version"), []byte("mica store 2\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.Root()); err == nil || !strings.Contains(err.Error(), "another format") {
		t.Errorf("%v", err)
	}
}
