package store

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// readVerified reads a blob through VerifiedBlob, by Read.
func readVerified(t testing.TB, s *Store, d digest.Digest) ([]byte, error) {
	t.Helper()
	r, err := s.VerifiedBlob(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(struct{ io.Reader }{r})
}

// copyVerified reads a blob through VerifiedBlob, by io.Copy, which asks for WriteTo.
func copyVerified(t testing.TB, s *Store, d digest.Digest) ([]byte, error) {
	t.Helper()
	r, err := s.VerifiedBlob(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var buf bytes.Buffer
	_, err = io.Copy(&buf, r)
	return buf.Bytes(), err
}

// readOpened reads a blob through OpenBlob, unverified.
func readOpened(t testing.TB, s *Store, d digest.Digest) ([]byte, error) {
	t.Helper()
	f, err := s.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(f)
}

func TestBlobWriter(t *testing.T) {
	for name, tt := range map[string]struct {
		parts []string
		want  bool // the digest is said beforehand
	}{
		"nothing written":            {},
		"nothing, as said":           {want: true},
		"one write":                  {parts: []string{"hello"}},
		"many writes":                {parts: []string{"hel", "", "lo", "\x00"}},
		"as said":                    {parts: []string{"hel", "lo"}, want: true},
		"larger than a small blob":   {parts: []string{strings.Repeat("x", maxSmallBlob), "y"}, want: true},
		"a blob that is there twice": {parts: []string{"there"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			if _, err := s.WriteBlob([]byte("there")); err != nil {
				t.Fatal(err)
			}
			w, err := s.NewBlob()
			if err != nil {
				t.Fatal(err)
			}
			content := strings.Join(tt.parts, "")
			for _, p := range tt.parts {
				if n, err := io.WriteString(w, p); n != len(p) || err != nil {
					t.Fatalf("write: %d, %v", n, err)
				}
			}
			d := digest.FromString(content)
			if w.Digest() != d || w.Size() != int64(len(content)) {
				t.Errorf("written: %s, %d bytes; want %s, %d", w.Digest(), w.Size(), d, len(content))
			}
			if _, err := s.StatBlob(d); content != "there" && !errors.Is(err, ErrNotFound) {
				t.Errorf("the blob is there before Commit: %v", err)
			}
			want := digest.Digest("")
			if tt.want {
				want = d
			}
			if got, err := w.Commit(want); got != d || err != nil {
				t.Errorf("commit: %s, %v; want %s", got, err, d)
			}
			_ = w.Close()
			wantEmpty(t, s, "tmp")
			if size, err := s.StatBlob(d); size != int64(len(content)) || err != nil {
				t.Errorf("stat: %d, %v", size, err)
			}
			for how, read := range map[string]func(testing.TB, *Store, digest.Digest) ([]byte, error){
				"read": readVerified, "copy": copyVerified, "open": readOpened,
			} {
				if got, err := read(t, s, d); string(got) != content || err != nil {
					t.Errorf("%s: %d bytes, %v; want %d", how, len(got), err, len(content))
				}
			}
		})
	}
}

func TestCommitOfAWrongDigestLeavesNothing(t *testing.T) {
	s := newStore(t)
	w, err := s.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(digest.FromString("hallo")); !errors.Is(err, ErrDamaged) {
		t.Errorf("error %v, want ErrDamaged", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	wantEmpty(t, s, "blobs", "sha256")
	wantEmpty(t, s, "tmp")
}

func TestCloseWithoutCommitLeavesNothing(t *testing.T) {
	s := newStore(t)
	w, err := s.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	wantEmpty(t, s, "blobs", "sha256")
	wantEmpty(t, s, "tmp")
}

func TestDamagedBlobs(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	d := digest.FromBytes(content)
	changed := bytes.Clone(content)
	changed[len(changed)/2] ^= 1
	for name, damaged := range map[string][]byte{
		"one bit changed": changed,
		"truncated":       content[:len(content)-1],
		"emptied":         {},
		"longer":          append(bytes.Clone(content), 'x'),
		"another":         []byte("another"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			if err := os.WriteFile(s.blobPath(d), damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.ReadBlob(d); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), d.String()) {
				t.Errorf("ReadBlob: %v", err)
			}
			if _, err := readVerified(t, s, d); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), d.String()) {
				t.Errorf("VerifiedBlob, read: %v", err)
			}
			if _, err := copyVerified(t, s, d); !errors.Is(err, ErrDamaged) {
				t.Errorf("VerifiedBlob, copied: %v", err)
			}
			if got, err := s.WriteBlob(content); got != d || err != nil {
				t.Errorf("WriteBlob: %s, %v", got, err)
			}
			if got, err := s.ReadBlob(d); err != nil || !bytes.Equal(got, content) {
				t.Errorf("the blob that was written again: %v", err)
			}
		})
	}
}

// A blob that is there and whole is not written again: readers may have it open, and its time says how long it is there.
func TestWriteBlobLeavesAWholeOneAlone(t *testing.T) {
	s := newStore(t)
	d, err := s.WriteBlob([]byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(s.blobPath(d))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.WriteBlob([]byte("hello")); again != d || err != nil {
		t.Errorf("again: %s, %v", again, err)
	}
	after, err := os.Stat(s.blobPath(d))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("it is another file")
	}
}

func TestReadBlobLimit(t *testing.T) {
	s := newStore(t)
	for name, tt := range map[string]struct {
		size int
		ok   bool
	}{
		"just small":  {maxSmallBlob, true},
		"one too big": {maxSmallBlob + 1, false},
	} {
		d, err := s.WriteBlob(make([]byte, tt.size))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.ReadBlob(d)
		if (err == nil) != tt.ok || tt.ok && len(got) != tt.size {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if errors.Is(err, ErrDamaged) {
			t.Errorf("%s: it is not damaged: %v", name, err)
		}
	}
}

func TestMissingBlobs(t *testing.T) {
	s := newStore(t)
	d := digest.FromString("nothing has this content")
	_, stat := s.StatBlob(d)
	_, read := s.ReadBlob(d)
	_, open := s.OpenBlob(d)
	_, verified := s.VerifiedBlob(d)
	for name, err := range map[string]error{"StatBlob": stat, "ReadBlob": read, "OpenBlob": open, "VerifiedBlob": verified} {
		if !errors.Is(err, ErrNotFound) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), d.String()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.RemoveBlob(d); err != nil {
		t.Errorf("RemoveBlob: %v", err)
	}
}

func TestInvalidDigestsAreRefused(t *testing.T) {
	s := newStore(t)
	before := snapshot(t, s.Root())
	hex := digest.FromString("x").Encoded()
	for name, d := range map[string]digest.Digest{
		"empty":             "",
		"no algorithm":      digest.Digest(hex),
		"short":             digest.Digest("sha256:" + hex[1:]),
		"long":              digest.Digest("sha256:" + hex + "0"),
		"not hex":           digest.Digest("sha256:g" + hex[1:]),
		"upper case":        digest.Digest("sha256:A" + hex[1:]),
		"another algorithm": digest.Digest("sha512:" + strings.Repeat("ab", 64)),
		"leads out":         "sha256:../../version",
		"leads out, long":   digest.Digest("sha256:../../version" + strings.Repeat("/.", 25) + "/"),
		"absolute":          "sha256:/etc/passwd",
		"only a path":       "../../version",
	} {
		_, stat := s.StatBlob(d)
		_, read := s.ReadBlob(d)
		_, open := s.OpenBlob(d)
		_, verified := s.VerifiedBlob(d)
		for what, err := range map[string]error{
			"StatBlob": stat, "ReadBlob": read, "OpenBlob": open, "VerifiedBlob": verified, "RemoveBlob": s.RemoveBlob(d),
		} {
			if err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
	}
	if after := snapshot(t, s.Root()); len(after) != len(before) {
		t.Errorf("the store is now %q", after)
	}
}

func TestBlobs(t *testing.T) {
	s := newStore(t)
	want := map[digest.Digest]int64{}
	for _, content := range []string{"", "one", "and two"} {
		d, err := s.WriteBlob([]byte(content))
		if err != nil {
			t.Fatal(err)
		}
		want[d] = int64(len(content))
	}
	for _, name := range []string{"README", "0123", ".hidden"} {
		if err := os.WriteFile(s.Path("blobs", "sha256", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := map[digest.Digest]int64{}
	for b, err := range s.Blobs() {
		if err != nil {
			t.Fatal(err)
		}
		if b.ModTime.IsZero() {
			t.Errorf("%s has no time", b.Digest)
		}
		got[b.Digest] = b.Size
	}
	if len(got) != len(want) {
		t.Errorf("%d blobs, want %d", len(got), len(want))
	}
	for d, size := range want {
		if n, ok := got[d]; !ok || n != size {
			t.Errorf("%s: %d bytes, %v; want %d", d, n, ok, size)
		}
	}
	n := 0
	for _, err := range s.Blobs() {
		if err != nil {
			t.Error(err)
		}
		n++
		break
	}
	if n != 1 {
		t.Errorf("a loop that was left met %d blobs", n)
	}
	for d := range want {
		if err := s.RemoveBlob(d); err != nil {
			t.Error(err)
		}
	}
	if files := inDir(t, s, "blobs", "sha256"); !slices.Equal(files, []string{".hidden", "0123", "README"}) {
		t.Errorf("left are %q", files)
	}
}

func TestBlobsOfAStoreWithoutThem(t *testing.T) {
	s := newStore(t)
	if err := os.RemoveAll(s.Path("blobs")); err != nil {
		t.Fatal(err)
	}
	for _, err := range s.Blobs() {
		if err == nil {
			t.Error("a blob of a directory that is gone")
		}
		return
	}
	t.Error("no error")
}

func TestWritingWhereNothingCanBeWritten(t *testing.T) {
	s := newStore(t)
	if err := os.RemoveAll(s.Path("tmp")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteBlob([]byte("x")); err == nil {
		t.Error("WriteBlob succeeds")
	}
	if _, err := s.NewBlob(); err == nil {
		t.Error("NewBlob succeeds")
	}
	if _, err := s.TempDir("x"); err == nil {
		t.Error("TempDir succeeds")
	}
	if _, err := s.RemoveStaleTemp(); err == nil {
		t.Error("RemoveStaleTemp succeeds")
	}
	wantEmpty(t, s, "blobs", "sha256")
}
