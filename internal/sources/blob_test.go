package sources

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// A blob is a file with the name and the metadata that the build gives it, wherever it is, if its content is that of its digest.
func TestBlobs(t *testing.T) {
	t.Parallel()
	sum := digest.FromString("data")
	for name, test := range map[string]struct {
		identifier string
		attrs      map[string]string
		content    string
		store      string
		file       string
		mode       os.FileMode
		err        string
	}{
		"of a registry": {"docker-image+blob://host/r@" + sum.String(), nil, "data", "", sum.Encoded(), 0o600, ""},
		"of a store":    {"oci-layout+blob://a/b@" + sum.String(), map[string]string{pb.AttrOCILayoutStoreID: "s"}, "data", "s", sum.Encoded(), 0o600, ""},
		"of a store by name": {
			"oci-layout+blob://a/b@" + sum.String(), map[string]string{pb.AttrHTTPFilename: "../x", pb.AttrHTTPPerm: "0755"}, "data", "a/b", "x", 0o755, "",
		},
		"other content": {"docker-image+blob://host/r@" + sum.String(), nil, "other", "", "", 0, "it has other content"},
		"missing":       {"docker-image+blob://host/r@" + sum.String(), nil, "", "", "", 0, "no such blob"},
		"no digest":     {"docker-image+blob://host/r", nil, "", "", "", 0, "it has no digest"},
		"not sha256":    {"docker-image+blob://host/r@sha512:00", nil, "", "", "", 0, "its digest is not a sha256"},
		"no number":     {"docker-image+blob://host/r@" + sum.String(), map[string]string{pb.AttrHTTPUID: "x"}, "", "", "", 0, "attribute http.uid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFetcher(t)
			var asked BlobRef
			f.Blob = func(_ context.Context, ref BlobRef) (io.ReadCloser, error) {
				if asked = ref; test.content == "" {
					return nil, errors.New("no such blob")
				}
				return io.NopCloser(strings.NewReader(test.content)), nil
			}
			src, err := f.Open(test.identifier, test.attrs)
			dir := t.TempDir()
			if err == nil {
				_, err = src.Pin(t.Context())
				err = errors.Join(err, src.Fetch(t.Context(), dir), src.Close())
			}
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %s", err, test.err)
				}
				return
			}
			if err != nil || asked.Store != test.store || asked.Digest != sum {
				t.Fatalf("%+v, %v", asked, err)
			}
			info, err := os.Stat(filepath.Join(dir, test.file))
			if err != nil || info.Mode() != test.mode || info.ModTime().Unix() != 0 || listing(t, dir) != test.file+"=data" {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}
