package sources

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil/gitobject"
	"github.com/opencontainers/go-digest"
)

// Metadata of a git source names the tag, its commit and their objects. A tag that is moved meanwhile stays what it was until the build ends.
func TestIdentifyTag(t *testing.T) {
	t.Parallel()
	r := newRepository(t, nil)
	commit := r.git("rev-parse", "HEAD")
	r.git("tag", "-a", "-m", "release", "v1")
	tag := r.git("rev-parse", "v1")
	f := newFetcher(t)
	identify := func(ref string, objects bool) (Identity, Objects) {
		t.Helper()
		d, err := f.Identify(t.Context(), "git://"+r.rest+"#"+ref, r.attrs(), Wanted{Objects: objects})
		if err != nil {
			t.Fatal(err)
		}
		return d.Identity, d.Objects
	}
	want := Identity{Commit: commit, Object: tag, Peeled: commit, Ref: "refs/tags/v1"}
	if is, o := identify("v1", false); is != want || o.Commit != nil {
		t.Errorf("%+v, %+v", is, o)
	}
	r.commit("file", "two")
	r.git("tag", "-f", "v1")
	is, o := identify("v1", true)
	if is != want {
		t.Errorf("%+v", is)
	}
	for id, data := range map[string][]byte{commit: o.Commit, tag: o.Tag} {
		object, err := gitobject.Parse(data)
		if err != nil || object.VerifyChecksum(id) != nil {
			t.Errorf("%s is not %q: %v", id, data, err)
		}
	}
	if is, o := identify(commit, true); is.Peeled != "" || o.Tag != nil || string(o.Commit) == "" {
		t.Errorf("%+v, %+v", is, o)
	}
}

// A file that was downloaded for its metadata is what the build gets, whatever the server has later; it is left over by no build.
func TestIdentifyFile(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, asked.Add(1)) })
	f := newFetcher(t)
	is, err := f.Identify(t.Context(), url+"/x", nil, Wanted{})
	if err != nil || is.Digest != digest.FromString("1") {
		t.Fatalf("%+v, %v", is, err)
	}
	src, err := f.Open(url+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, err = src.Pin(t.Context())
	if err := errors.Join(err, src.Fetch(t.Context(), dir), src.Close()); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, dir); got != "x=1" || asked.Load() != 1 {
		t.Errorf("%s; %d downloads", got, asked.Load())
	}
	if _, err := f.Identify(t.Context(), url+"/y", nil, Wanted{}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(f.Store.Path("tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary directories are left: %v, %v", left, err)
	}
}

// A policy asks for other digests of a file, of the content that the build gets.
func TestChecksums(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, "data")
	})
	f := newFetcher(t)
	for want, c := range map[digest.Digest]*Checksum{
		digest.SHA512.FromString("data"):       {Algorithm: digest.SHA512},
		digest.SHA384.FromString("data, more"): {Algorithm: digest.SHA384, Suffix: []byte(", more")},
	} {
		for _, attrs := range []map[string]string{nil, {pb.AttrHTTPChecksum: digest.FromString("data").String()}} {
			if d, err := f.Identify(t.Context(), url+"/x", attrs, Wanted{Checksum: c}); err != nil || d.Checksum != want {
				t.Errorf("%+v, %v", d, err)
			}
		}
	}
	if asked.Load() != 1 {
		t.Errorf("%d downloads", asked.Load())
	}
	for want, c := range map[string]*Checksum{
		"unsupported checksum algorithm": {}, "exceeds max size": {Algorithm: digest.SHA256, Suffix: make([]byte, maxSuffix+1)},
	} {
		if _, err := f.Identify(t.Context(), url+"/x", nil, Wanted{Checksum: c}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	other := map[string]string{pb.AttrHTTPChecksum: digest.FromString("other").String()}
	if _, err := f.Identify(t.Context(), url+"/x", other, Wanted{Checksum: &Checksum{Algorithm: digest.SHA256}}); err == nil || !strings.Contains(err.Error(), "digest mismatch") {
		t.Errorf("%v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(f.Store.Path("tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary directories are left: %v, %v", left, err)
	}
}

// An error is not remembered.
func TestMemo(t *testing.T) {
	t.Parallel()
	var m memo[string]
	calls := 0
	for _, want := range []string{"error", "2", "2"} {
		got, err := m.do(t.Context(), "key", func() (string, error) {
			if calls++; calls == 1 {
				return "", errors.New("error")
			}
			return fmt.Sprint(calls), nil
		})
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
