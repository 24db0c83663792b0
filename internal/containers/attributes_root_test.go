package containers

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/quota"
)

// netRaw is the capability CAP_NET_RAW, permitted and effective, in revision 2.
const netRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// TestRootCapabilities: a program keeps its capabilities when it is copied out of a container and into one, with another owner.
func TestRootCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	from, to := t.TempDir(), t.TempDir()
	program := filepath.Join(from, "program")
	if err := os.WriteFile(program, []byte("text"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(program, capability, []byte(netRaw), 0); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := &archiver{ctx: t.Context(), tar: tar.NewWriter(&buf), links: map[[2]uint64]string{}}
	source, err := os.OpenRoot(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	if err := w.children(source, ".", ""); err != nil {
		t.Fatal(err)
	}
	if err := w.tar.Close(); err != nil {
		t.Fatal(err)
	}
	target, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Close() }()
	x := &extractor{ctx: t.Context(), root: int(target.Fd()), dir: "/", quota: &quota.Quota{}, o: ExtractOptions{OwnUser: true}, uid: 7, gid: 8}
	if err := x.all(tar.NewReader(&buf)); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, sizeOfRevision3)
	n, err := unix.Getxattr(filepath.Join(to, "program"), capability, value)
	if err != nil || string(value[:n]) != netRaw {
		t.Errorf("%q, %v", value[:max(n, 0)], err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(to, "program"), &st); err != nil || st.Uid != 7 || st.Gid != 8 || st.Mode&0o7777 != 0o755 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestRootCommittedCapabilities: a program keeps its capabilities, its owner and its mode when the files of a container are committed.
func TestRootCommittedCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	program := filepath.Join(from, "program")
	err := os.WriteFile(program, []byte("text"), 0o600)
	if err == nil {
		err = os.Chown(program, 7, 8)
	}
	if err == nil {
		err = unix.Chmod(program, 0o4755)
	}
	if err == nil {
		err = unix.Setxattr(program, capability, []byte(netRaw), 0)
	}
	if err == nil {
		err = copyUpper(t.Context(), from, to)
	}
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, sizeOfRevision3)
	n, err := unix.Getxattr(filepath.Join(to, "program"), capability, value)
	if err != nil || string(value[:n]) != netRaw {
		t.Errorf("%q, %v", value[:max(n, 0)], err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(to, "program"), &st); err != nil || st.Uid != 7 || st.Gid != 8 || st.Mode&0o7777 != 0o4755 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestRootAttributes: of the attributes in a tar, those of security modules and of filesystems are not set.
func TestRootAttributes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	h := &tar.Header{Name: "f", PAXRecords: map[string]string{attributePrefix + "trusted.overlay.opaque": "y", attributePrefix + "user.note": "mine", "comment": "x"}}
	if err := setAttributes(h, f); err != nil {
		t.Fatal(err)
	}
	names := make([]byte, maxAttribute)
	n, err := unix.Flistxattr(int(f.Fd()), names)
	if got := string(names[:max(n, 0)]); err != nil || got != "user.note\x00" {
		t.Errorf("%q, %v", got, err)
	}
}
