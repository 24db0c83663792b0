package view

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/quota"
)

// archived is a member of a tar archive; a regular file's content is in a record that is not written.
func archived(name string, typeflag byte, more ...func(*tar.Header)) *tar.Header {
	h := &tar.Header{Name: name, Typeflag: typeflag, Mode: 0o644, ModTime: longAgo, Format: tar.FormatPAX}
	switch typeflag {
	case tar.TypeDir:
		h.Mode = 0o755
	case tar.TypeReg:
		h.PAXRecords = map[string]string{"MICA.data": "data of " + name}
	}
	for _, f := range more {
		f(h)
	}
	return h
}

func archivedLink(name string, typeflag byte, target string, more ...func(*tar.Header)) *tar.Header {
	return archived(name, typeflag, append(more, func(h *tar.Header) { h.Linkname = target })...)
}

// data is the content of an archive's regular file.
func data(s string) func(*tar.Header) {
	return func(h *tar.Header) { h.PAXRecords = map[string]string{"MICA.data": s} }
}

// archive writes a tar.
func archive(t testing.TB, members ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		h := *m
		content := h.PAXRecords["MICA.data"]
		h.PAXRecords = nil
		for k, v := range m.PAXRecords {
			if k != "MICA.data" {
				if h.PAXRecords == nil {
					h.PAXRecords = map[string]string{}
				}
				h.PAXRecords[k] = v
			}
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// compressed is data in one of the forms that ADD recognises.
func compressed(t testing.TB, algorithm compression.Algorithm, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	switch algorithm {
	case compression.Gzip:
		w = gzip.NewWriter(&buf)
	case compression.Zstd:
		w, err = zstd.NewWriter(&buf)
	case compression.XZ:
		w, err = xz.NewWriter(&buf)
	default:
		return data
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// add unpacks data as `ADD` does, into /d of an overlay.
func add(t testing.TB, o *Overlay, data []byte, owner *Chown) error {
	t.Helper()
	return addBy(t, o, data, owner, t.TempDir())
}

func addBy(t testing.TB, o *Overlay, data []byte, owner *Chown, temp string) error {
	t.Helper()
	return o.Copy(t.Context(), Files(map[string][]byte{"x.tar": data}), "x.tar", "/d/", CopyOptions{
		AttemptUnpack: true, CreateDestPath: true, FollowSymlink: true, Owner: owner, TempDir: temp,
	})
}

func TestUnpackCompressions(t *testing.T) {
	t.Parallel()
	plain := archive(t, archived("a", tar.TypeReg, data("A")), archived("b/", tar.TypeDir), archived("b/c", tar.TypeReg, data("")))
	for _, algorithm := range []compression.Algorithm{compression.None, compression.Gzip, compression.Zstd, compression.XZ} {
		t.Run(string(algorithm), func(t *testing.T) {
			o := begin()
			if err := add(t, o, compressed(t, algorithm, plain), nil); err != nil {
				t.Fatal(err)
			}
			same(t, changesOf(t, o), []string{"d/", `d/a = "A"`, "d/b/", `d/b/c = ""`})
		})
	}
}

func TestUnpackCopiesWhatIsNoArchive(t *testing.T) {
	t.Parallel()
	for name, content := range map[string][]byte{
		"text":                           []byte("hello"),
		"nothing":                        nil,
		"a gzip magic and nothing":       {0x1f, 0x8b, 0x08},
		"a gzip magic and rubbish":       append([]byte{0x1f, 0x8b, 0x08}, bytes.Repeat([]byte{0xff}, 100)...),
		"a zstd magic and rubbish":       append([]byte{0x28, 0xb5, 0x2f, 0xfd}, bytes.Repeat([]byte{0xff}, 100)...),
		"an xz magic and rubbish":        append([]byte{0xfd, '7', 'z', 'X', 'Z', 0}, bytes.Repeat([]byte{1}, 100)...),
		"compressed text":                compressed(t, compression.Gzip, []byte("hello")),
		"an empty archive":               archive(t),
		"a header with a wrong sum":      bytes.Repeat([]byte("x"), 1024),
		"half a header of an archive":    archive(t, archived("a", tar.TypeReg))[:300],
		"an archive in two compressions": compressed(t, compression.Gzip, compressed(t, compression.Gzip, archive(t, archived("a", tar.TypeReg)))),
	} {
		t.Run(name, func(t *testing.T) {
			o := begin()
			if err := add(t, o, content, nil); err != nil {
				t.Fatal(err)
			}
			same(t, changesOf(t, o), []string{"d/", fmt.Sprintf("d/x.tar = %q", content)})
		})
	}
}

func TestUnpackOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	o := begin()
	content := archive(t, archived("a", tar.TypeReg))
	if err := o.Copy(t.Context(), Files(map[string][]byte{"x.tar": content}), "x.tar", "/", CopyOptions{TempDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	same(t, changesOf(t, o), []string{fmt.Sprintf("x.tar = %q", content)})
}

func TestUnpackSources(t *testing.T) {
	t.Parallel()
	one, two := archive(t, archived("a", tar.TypeReg)), archive(t, archived("a", tar.TypeReg, data("newer")), archived("b", tar.TypeReg, data("B")))
	from := tree(regular("1.tar", string(one)), regular("2.tar", string(two)), regular("3.txt", "text"), symlink("link", "1.tar"), directory("4"), regular("4/x", ""))
	for _, c := range []struct {
		name, src string
		want      []string
		kind      error
	}{
		{name: "several, some no archives", src: "[123]*", want: []string{"d/", `d/3.txt = "text"`, `d/a = "newer"`, `d/b = "B"`}},
		{name: "a link to one", src: "link", want: []string{"d/", `d/a = "data of a"`}},
		{name: "a directory is copied", src: "4", want: []string{"d/", "d/4/", `d/4/x = ""`}},
		{name: "a missing one", src: "no.tar", kind: fs.ErrNotExist},
	} {
		action{name: c.name, do: func(ctx context.Context, o *Overlay) error {
			return o.Copy(ctx, from, c.src, "/d/", CopyOptions{AttemptUnpack: true, AllowWildcard: true, CreateDestPath: true, TempDir: t.TempDir()})
		}, want: c.want, kind: c.kind}.run(t)
	}
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	odd := func(h *tar.Header) {
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.k": "v", "SCHILY.xattr.trusted.k": "v", "SCHILY.xattr.odd.k": "v"}
	}
	for _, c := range []struct {
		name    string
		base    []member
		owner   *Chown
		archive []*tar.Header
		want    []string // after "d/"
		kind    error
		says    string
	}{
		{name: "modes, owners and attributes", archive: []*tar.Header{
			archived("a", tar.TypeReg, data("A"), func(h *tar.Header) { h.Mode, h.Uid, h.Gid = 0o4750, 1, 2 }),
			archived("b", tar.TypeDir, func(h *tar.Header) { h.Mode = 0o1777 }),
			archived("c", tar.TypeReg, func(h *tar.Header) {
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.k": "v", "SCHILY.xattr.security.capability": "\x01", "comment": "no"}
			}),
		}, want: []string{`d/a = "A" 4750 1:2`, "d/b/ 1777", "d/c = \"\" {security.capability=\x01} {user.k=v}"}},
		{name: "a given owner has all", owner: someone, archive: []*tar.Header{
			archived("a", tar.TypeReg, data("A"), func(h *tar.Header) { h.Uid, h.Gid = 1, 2 }),
			archived("b", tar.TypeDir), archivedLink("c", tar.TypeSymlink, "a"),
		}, want: []string{`d/a = "A" 5:6`, "d/b/ 5:6", "d/c -> a 5:6"}},
		{name: "links", archive: []*tar.Header{
			archived("a", tar.TypeReg, data("A")), archivedLink("soft", tar.TypeSymlink, "../../etc//passwd"), archivedLink("hard", tar.TypeLink, "a"),
			archivedLink("harder", tar.TypeLink, "./hard"), archivedLink("hard/../abs", tar.TypeLink, "/a"),
		}, want: []string{`d/a = "A"`, "d/abs is d/a", "d/hard is d/a", "d/harder is d/a", "d/soft -> ../../etc//passwd"}},
		{name: "a hardlink to a symlink is a symlink", archive: []*tar.Header{
			archivedLink("soft", tar.TypeSymlink, "a"), archived("a", tar.TypeReg, data("A")), archivedLink("hard", tar.TypeLink, "soft"),
		}, want: []string{`d/a = "A"`, "d/hard -> a", "d/soft is d/hard"}},
		{name: "a hardlink to a file that was there", base: []member{regular("d/old", "old").mode(0o600)}, archive: []*tar.Header{
			archivedLink("new", tar.TypeLink, "old"),
		}, want: []string{`d/new = "old"`, "d/old is d/new"}},
		{name: "a hardlink changes its file", owner: someone, archive: []*tar.Header{
			archived("a", tar.TypeReg, data("A"), func(h *tar.Header) {
				h.Mode, h.PAXRecords["SCHILY.xattr.security.capability"], h.PAXRecords["SCHILY.xattr.user.k"] = 0o4755, "\x01", "v"
			}), archivedLink("b", tar.TypeLink, "a"),
		}, want: []string{`d/a = "A" 5:6 {user.k=v}`, "d/b is d/a 5:6 {user.k=v}"}},
		{name: "a hardlink to a pipe", archive: []*tar.Header{archived("p", tar.TypeFifo), archivedLink("q", tar.TypeLink, "p")},
			want: []string{"d/p fifo", "d/q is d/p"}},
		{name: "a hardlink to what comes later", archive: []*tar.Header{archivedLink("b", tar.TypeLink, "a"), archived("a", tar.TypeReg)},
			kind: fs.ErrNotExist, says: `extract /x.tar: member "b" is a link to "a"`},
		{name: "a hardlink to itself", archive: []*tar.Header{archived("a", tar.TypeReg), archivedLink("a", tar.TypeLink, "a")}, kind: fs.ErrNotExist},
		{name: "a hardlink to a directory", archive: []*tar.Header{archived("a", tar.TypeDir), archivedLink("b", tar.TypeLink, "a")}, kind: fs.ErrPermission},
		{name: "devices", archive: []*tar.Header{
			archived("null", tar.TypeChar, func(h *tar.Header) { h.Devmajor, h.Devminor = 1, 3 }),
			archived("sda", tar.TypeBlock, func(h *tar.Header) { h.Devmajor, h.Devminor, h.Mode = 8, 1, 0o660 }),
			archived("pipe", tar.TypeFifo),
		}, want: []string{"d/null char 1,3", "d/pipe fifo", "d/sda block 8,1 0660"}},
		{name: "directories that the archive does not name", owner: someone, archive: []*tar.Header{archived("a/b/c", tar.TypeReg, data(""))},
			want: []string{"d/a/", "d/a/b/", `d/a/b/c = "" 5:6`}},
		{name: "the root is left as it is", base: []member{directory("d").mode(0o700)}, archive: []*tar.Header{
			archived("./", tar.TypeDir), archived("x/..", tar.TypeReg), archived("./a", tar.TypeReg, data("")),
		}, want: []string{`d/a = ""`}},
		{name: "global headers are passed over", archive: []*tar.Header{
			{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "abc"}, Format: tar.FormatPAX},
			archived("a", tar.TypeReg, data("")),
		}, want: []string{`d/a = ""`}},
		{name: "an unknown type", archive: []*tar.Header{archived("a", 'Z')}, says: `member "a" has the unknown type 'Z'`},
		{name: "attributes that a file cannot have", archive: []*tar.Header{
			archivedLink("a", tar.TypeSymlink, "x", odd), archived("b", tar.TypeFifo, odd), archived("c", tar.TypeDir, odd),
		}, want: []string{"d/a -> x {trusted.k=v}", "d/b fifo {trusted.k=v}", "d/c/ {trusted.k=v} {user.k=v}"}},

		{name: "a directory is merged with one that is there", base: []member{directory("d/a").mode(0o700), regular("d/a/old", "old")},
			archive: []*tar.Header{archived("a", tar.TypeDir), archived("a/new", tar.TypeReg, data("new"))},
			want:    []string{"d/a/", `d/a/new = "new"`}},
		{name: "a file replaces a directory", base: []member{regular("d/a/old", "old")}, archive: []*tar.Header{archived("a", tar.TypeReg, data("A"))},
			want: []string{`d/a = "A"`}},
		{name: "a directory replaces a file", base: []member{regular("d/a", "old")}, archive: []*tar.Header{archived("a", tar.TypeDir), archived("a/b", tar.TypeReg, data(""))},
			want: []string{"d/a/", `d/a/b = ""`}},
		{name: "a directory replaces a link to one", base: []member{directory("d/real"), symlink("d/a", "real")},
			archive: []*tar.Header{archived("a", tar.TypeDir), archived("a/b", tar.TypeReg, data(""))}, want: []string{"d/a/", `d/a/b = ""`}},
		{name: "a link replaces a directory", base: []member{regular("d/a/old", "old")}, archive: []*tar.Header{archivedLink("a", tar.TypeSymlink, "x")},
			want: []string{"d/a -> x"}},
		{name: "a later member replaces an earlier", archive: []*tar.Header{
			archived("a", tar.TypeReg, data("one")), archived("a", tar.TypeReg, data("two")), archived("b/c", tar.TypeReg), archivedLink("b", tar.TypeSymlink, "a"),
		}, want: []string{`d/a = "two"`, "d/b -> a"}},
		{name: "replacing one name of a file leaves the other", archive: []*tar.Header{
			archived("a", tar.TypeReg, data("one")), archivedLink("b", tar.TypeLink, "a"), archived("a", tar.TypeReg, data("two")),
		}, want: []string{`d/a = "two"`, `d/b = "one"`}},
		{name: "below a file", archive: []*tar.Header{archived("a", tar.TypeReg), archived("a/b", tar.TypeReg)}, kind: syscall.ENOTDIR},

		{name: "names that climb stay inside", archive: []*tar.Header{
			archived("../x", tar.TypeReg, data("")), archived("a/../../y", tar.TypeReg, data("")), archived("../../b/z", tar.TypeReg, data("")),
		}, want: []string{"d/b/", `d/b/z = ""`, `d/x = ""`, `d/y = ""`}},
		{name: "a name that is the parent is the root", base: []member{directory("d").mode(0o700)}, archive: []*tar.Header{archived("..", tar.TypeFifo)},
			says: `member ".." cannot replace the directory`},
		{name: "dots that stay inside", archive: []*tar.Header{archived("a/../x", tar.TypeReg, data(""))}, want: []string{`d/x = ""`}},
		{name: "an absolute name", archive: []*tar.Header{archived("/x", tar.TypeReg, data("")), archived("/../y", tar.TypeReg, data("")), archived("//z", tar.TypeReg, data(""))},
			want: []string{`d/x = ""`, `d/y = ""`, `d/z = ""`}},
		{name: "through an absolute link of the archive", archive: []*tar.Header{
			archived("etc", tar.TypeDir), archivedLink("l", tar.TypeSymlink, "/etc"), archived("l/passwd", tar.TypeReg, data("me")),
		}, want: []string{"d/etc/", `d/etc/passwd = "me"`, "d/l -> /etc"}},
		{name: "through a climbing link of the archive", archive: []*tar.Header{
			archivedLink("l", tar.TypeSymlink, "../../.."), archived("l/etc/passwd", tar.TypeReg, data("me")),
		}, want: []string{"d/etc/", `d/etc/passwd = "me"`, "d/l -> ../../.."}},
		{name: "through links that were there", base: []member{directory("d/etc"), symlink("d/l", "/etc"), symlink("d/m", "../etc")}, archive: []*tar.Header{
			archived("l/one", tar.TypeReg, data("1")), archived("m/two", tar.TypeReg, data("2")),
		}, want: []string{"d/etc/", `d/etc/one = "1"`, `d/etc/two = "2"`}},
		{name: "through a link that leads nowhere in there", base: []member{symlink("d/l", "/etc")}, archive: []*tar.Header{archived("l/x/passwd", tar.TypeReg)},
			kind: fs.ErrNotExist, says: `member "l/x/passwd": l is a symlink to /etc, which does not exist`},
		{name: "through a link that leads on by what is missing", base: []member{directory("d/real"), symlink("d/l", "no/../real")},
			archive: []*tar.Header{archived("l/a", tar.TypeReg)}, kind: fs.ErrNotExist},
		{name: "onto a link", base: []member{symlink("d/l", "/etc/passwd")}, archive: []*tar.Header{archived("l", tar.TypeReg, data("me"))},
			want: []string{`d/l = "me"`}},
		{name: "a hardlink to what is outside", archive: []*tar.Header{archivedLink("h", tar.TypeLink, "../etc/passwd")}, kind: fs.ErrNotExist},
		{name: "an absolute hardlink to what is outside", archive: []*tar.Header{archivedLink("h", tar.TypeLink, "/etc/passwd")}, kind: fs.ErrNotExist},
		{name: "a hardlink through a link to what is outside", base: []member{symlink("d/l", "/etc")}, archive: []*tar.Header{
			archivedLink("h", tar.TypeLink, "l/passwd"),
		}, kind: fs.ErrNotExist},
		{name: "through a loop", archive: []*tar.Header{archivedLink("l", tar.TypeSymlink, "l"), archived("l/a", tar.TypeReg)}, kind: syscall.ELOOP},
	} {
		want := append([]string{"d/"}, c.want...)
		if len(c.base) > 0 && c.base[0].e.Path == "d" {
			want[0] = line(&c.base[0].e, "")
		}
		base := append([]member{regular("etc/passwd", "secret")}, c.base...)
		if c.owner != nil {
			want[0] = "d/ 5:6"
		}
		action{c.name, base, func(_ context.Context, o *Overlay) error {
			return add(t, o, archive(t, c.archive...), c.owner)
		}, want, c.kind, c.says}.run(t)
	}
}

func TestUnpackDestinations(t *testing.T) {
	t.Parallel()
	plain := archive(t, archived("a", tar.TypeReg, data("A")))
	for _, c := range []struct {
		name, dest string
		base       []member
		want       []string
		kind       error
	}{
		{name: "the root", dest: "/", want: []string{`a = "A"`}},
		{name: "a missing directory, without a slash", dest: "/x/y", want: []string{"x/", "x/y/", `x/y/a = "A"`}},
		{name: "through a link", dest: "/l/x", base: []member{symlink("l", "../../real")}, want: []string{"real/", "real/x/", `real/x/a = "A"`}},
		{name: "a file", dest: "/f", base: []member{regular("f", "")}, kind: syscall.ENOTDIR},
		{name: "a loop", dest: "/l", base: []member{symlink("l", "l")}, kind: syscall.ELOOP},
	} {
		action{c.name, c.base, func(ctx context.Context, o *Overlay) error {
			return o.Copy(ctx, Files(map[string][]byte{"x.tar": plain}), "x.tar", c.dest, CopyOptions{AttemptUnpack: true, CreateDestPath: true, TempDir: t.TempDir()})
		}, c.want, c.kind, ""}.run(t)
	}
}

func TestUnpackDamagedArchives(t *testing.T) {
	t.Parallel()
	plain := archive(t, archived("a", tar.TypeReg, data(strings.Repeat("A", 5000))), archived("b", tar.TypeReg, data("B")))
	noise := make([]byte, 100_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	noisy := archive(t, archived("a", tar.TypeReg, data(string(noise))))
	packed := compressed(t, compression.Gzip, noisy)
	changed := bytes.Clone(packed)
	changed[80_000] ^= 1
	// As mica compresses.
	var members bytes.Buffer
	w, err := compression.NewWriter(&members, compression.Gzip, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(noisy)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	membersChanged := bytes.Clone(members.Bytes())
	membersChanged[80_000] ^= 1
	wrong := bytes.Clone(plain)
	wrong[512*11] ^= 1 // the second member's header
	for name, c := range map[string]struct {
		data []byte
		kind error
	}{
		"cut off in a file": {plain[:2000], io.ErrUnexpectedEOF},
		"a damaged header":  {wrong, tar.ErrHeader},
		"gzip cut off":      {packed[:80_000], io.ErrUnexpectedEOF},
		"gzip changed":      {changed, gzip.ErrChecksum},
		"members cut off":   {members.Bytes()[:80_000], io.ErrUnexpectedEOF},
		"members changed":   {membersChanged, gzip.ErrChecksum},
	} {
		t.Run(name, func(t *testing.T) {
			fails(t, add(t, begin(), c.data, nil), c.kind, "extract /x.tar: ")
		})
	}
	if err := add(t, begin(), slices.Concat(packed, []byte("what follows")), nil); err != nil {
		t.Errorf("with something behind it: %v", err)
	}
}

func TestUnpackErrorsOfTheHost(t *testing.T) {
	t.Parallel()
	plain := archive(t, archived("a", tar.TypeReg))
	opt := CopyOptions{AttemptUnpack: true, TempDir: t.TempDir() + "/no"}
	fails(t, begin().Copy(t.Context(), Files(map[string][]byte{"x.tar": plain}), "x.tar", "/", opt), fs.ErrNotExist, "extract archive")

	opt.TempDir = t.TempDir()
	o := begin()
	if err := o.Copy(t.Context(), Files(map[string][]byte{"x.tar": plain}), "x.tar", "/", opt); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(opt.TempDir); err != nil {
		t.Fatal(err)
	}
	_, err := o.Open(t.Context(), "a")
	fails(t, err, fs.ErrNotExist, "")
}

func TestUnpackStopsWhenItIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	from := Files(map[string][]byte{"x.tar": archive(t, archived("a", tar.TypeReg))})
	opt := CopyOptions{AttemptUnpack: true, CreateDestPath: true, TempDir: t.TempDir()}
	fails(t, begin().Copy(ctx, from, "x.tar", "/d/", opt), context.Canceled, "")
}

func TestUnpackKeepsTimes(t *testing.T) {
	t.Parallel()
	of := func(at time.Time) func(*tar.Header) { return func(h *tar.Header) { h.ModTime = at } }
	epoch := time.Unix(0, 0).UTC()
	o := begin()
	if err := add(t, o, archive(t,
		archived("made/a", tar.TypeReg), archived("b", tar.TypeDir), archived("f", tar.TypeReg, of(now)), archivedLink("g", tar.TypeLink, "f"),
		archived("before", tar.TypeReg, of(epoch.Add(-time.Second))), archivedLink("after", tar.TypeSymlink, "x", of(epoch.AddDate(300, 0, 0))),
		archived("was", tar.TypeDir, of(epoch.Add(time.Hour))), archived("was", tar.TypeReg), // the directory's time is set last
	), nil); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Time{
		"d": now, "d/made": now, "d/made/a": longAgo, "d/b": longAgo, "d/f": longAgo, "d/before": epoch, "d/after": epoch, "d/was": epoch.Add(time.Hour),
	} {
		if e, err := o.Lstat(t.Context(), name); err != nil || !e.ModTime.Equal(want) {
			t.Errorf("%s is of %v (%v), want %s", name, e.ModTime, err, want)
		}
	}
	gone := archive(t, archived("a", tar.TypeDir), archivedLink("a", tar.TypeSymlink, "nowhere"))
	fails(t, add(t, begin(), gone, nil), fs.ErrNotExist, `member "a": `)
}

func TestUnpackTheRootByOtherNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"/", "..", "/../", "../.."} {
		o := begin(directory("d"))
		if err := add(t, o, archive(t, archived(name, tar.TypeDir, func(h *tar.Header) { h.Mode = 0o700 })), nil); err != nil {
			t.Fatal(err)
		}
		same(t, changesOf(t, o), []string{"d/ 0700"})
	}
}

// FuzzUnpack adds any bytes to a tree that has links out of the destination: whatever comes of it is in there.
func FuzzUnpack(f *testing.F) {
	seeds := [][]*tar.Header{
		{archived("a", tar.TypeReg), archived("b/", tar.TypeDir), archivedLink("b/c", tar.TypeLink, "a"), archivedLink("d", tar.TypeSymlink, "/b")},
		{archived("../x", tar.TypeReg)},
		{archived("abs/x", tar.TypeReg), archived("up/x", tar.TypeReg), archivedLink("h", tar.TypeLink, "up")},
		{archivedLink("l", tar.TypeSymlink, "../../.."), archived("l/secret", tar.TypeReg), archivedLink("h", tar.TypeLink, "l/secret")},
		{archived("sub", tar.TypeReg), archived("sub", tar.TypeDir), archived("sub/x", tar.TypeFifo), archived("loop/x", tar.TypeReg)},
		{archived("null", tar.TypeChar), archived("./", tar.TypeDir), archived("//x/../y", tar.TypeReg)},
		{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "../x"}}, archived("a\n\xff", tar.TypeReg)},
	}
	for _, s := range seeds {
		plain := archive(f, s...)
		f.Add(plain)
		f.Add(plain[:len(plain)-1500])
	}
	f.Add(compressed(f, compression.Gzip, archive(f, seeds[0]...)))
	f.Add(compressed(f, compression.Zstd, archive(f, seeds[3]...)))
	f.Add([]byte("text"))
	f.Add(sparseArchive(f, 1<<40))
	f.Add(sparseArchive(f, 1<<20))
	f.Setenv(quota.Setting, "1m") // what is larger ends with an error
	temp := memoryDirectory(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if data = resummed(data); !modest(data) {
			return
		}
		defer empty(t, temp)
		o := begin(
			regular("secret", "s"), directory("d"), symlink("d/abs", "/secret"), symlink("d/up", "../secret"), symlink("d/out", "../../out"),
			regular("d/sub/old", "old"), symlink("d/loop", "loop"),
		)
		if err := addBy(t, o, data, nil, temp); err != nil && strings.Contains(err.Error(), temp) {
			t.Error(err) // an error of the spool's, which no archive should cause
		}
		changes, err := o.Changes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if c.Entry.Path != "d" && !strings.HasPrefix(c.Entry.Path, "d/") {
				t.Errorf("%q is changed", c.Entry.Path)
			}
			if c.Entry.Type < TypeRegular || c.Entry.Type > TypeFifo && c.Entry.Type != TypeWhiteout || c.Entry.Mode > 0o7777 {
				t.Errorf("%q has the type %d and the mode %o", c.Entry.Path, c.Entry.Type, c.Entry.Mode)
			}
		}
		changesOf(t, o)
	})
}

// memoryDirectory is a directory in memory, where there is that: ext4 takes ever longer to find an inode while thousands of files
// are made and removed within seconds.
func memoryDirectory(f *testing.F) string {
	dir, err := os.MkdirTemp("/dev/shm", "mica-fuzz-")
	if err != nil {
		return f.TempDir()
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// empty removes what is in a directory.
func empty(t *testing.T, dir string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// resummed mends the checksums of a plain tar's headers, without which no changed header would be read.
func resummed(data []byte) []byte {
	data = bytes.Clone(data)
	for rest := data; len(rest) >= 512 && string(rest[257:262]) == "ustar"; {
		copy(rest[148:156], "        ")
		sum := 0
		for _, b := range rest[:512] {
			sum += int(b)
		}
		copy(rest[148:156], fmt.Sprintf("%06o\x00 ", sum))
		size, err := strconv.ParseInt(strings.Trim(string(rest[124:136]), " \x00"), 8, 32)
		if err != nil || size < 0 {
			break
		}
		rest = rest[min(512+(int(size)+511)/512*512, len(rest)):]
	}
	return data
}

// modest says that an archive holds no more than a test has time for.
func modest(data []byte) bool {
	in, _, err := compression.NewReader(bytes.NewReader(data))
	if err != nil {
		return true
	}
	defer func() { _ = in.Close() }()
	limited := &io.LimitedReader{R: in, N: 1 << 20}
	tr := tar.NewReader(limited)
	for {
		h, err := tr.Next()
		if err != nil {
			return limited.N > 0
		}
		if len(h.Name)+len(h.Linkname) > 512 {
			return false
		}
	}
}
