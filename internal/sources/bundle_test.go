package sources

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// What a build makes a bundle of, another one takes from it, without the remote.
func TestBundle(t *testing.T) {
	t.Parallel()
	r := newRepository(t, nil)
	r.commit("file", "two")
	commit := r.commit("dir/other", "three")
	r.git("tag", "-a", "-m", "release", "v1")
	f := newFetcher(t)
	// The repository has the last commit alone before its history is needed.
	if _, _, err := fetch(t, f, "git://"+r.rest+"#main", r.attrs()); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"main", "v1", commit} {
		_, dir, err := fetch(t, f, "git://"+r.rest+"#"+ref, r.attrs(pb.AttrGitCheckoutBundle, "true"))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "bundle")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		other := newFetcher(t)
		other.Blob = func(context.Context, BlobRef) (io.ReadCloser, error) { return os.Open(file) }
		locator := "oci-layout+blob://any/store@" + digest.FromBytes(data).String()
		for _, as := range []string{ref, commit, ""} {
			attrs := map[string]string{pb.AttrFullRemoteURL: "https://no.such.host/r.git", pb.AttrGitBundle: locator, pb.AttrGitChecksum: commit}
			pin, dir, err := fetch(t, other, "git://no.such.host/r.git#"+as, attrs)
			if err != nil || pin != commit {
				t.Errorf("%s as %q: %s, %v", ref, as, pin, err)
				continue
			}
			if got := listing(t, dir); got != "dir/ dir/other=three file=two" {
				t.Errorf("%s as %q: %s", ref, as, got)
			}
		}
		left, err := os.ReadDir(other.Store.Path("tmp"))
		if err != nil || len(left) != 0 {
			t.Errorf("temporary directories are left: %v, %v", left, err)
		}
	}
}

func TestInvalidBundles(t *testing.T) {
	t.Parallel()
	r := newRepository(t, nil)
	commit := r.git("rev-parse", "HEAD")
	f := newFetcher(t)
	f.Blob = func(context.Context, BlobRef) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("no bundle")), nil
	}
	locator := "docker-image+blob://host/r@" + digest.FromString("no bundle").String()
	for want, attrs := range map[string][]string{
		"it has no checksum":             {pb.AttrGitBundle, locator},
		"is not that of a commit":        {pb.AttrGitBundle, locator, pb.AttrGitChecksum, "abc"},
		"it has no digest":               {pb.AttrGitBundle, "docker-image+blob://host/r", pb.AttrGitChecksum, commit},
		"neither a .git directory nor":   {pb.AttrGitCheckoutBundle, "true", pb.AttrKeepGitDir, "true"},
		"failed to read the bundle of":   {pb.AttrGitBundle, locator, pb.AttrGitChecksum, commit},
		"its scheme is not docker-image": {pb.AttrGitBundle, strings.Replace(locator, "docker-image+blob", "https", 1), pb.AttrGitChecksum, commit},
	} {
		if _, _, err := fetch(t, f, "git://"+r.rest, r.attrs(attrs...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
