package builder

import (
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/registry"
)

// A cache that cannot be opened ends a build before it begins, unless its errors are ignored.
func TestCheckObjects(t *testing.T) { //nolint:paralleltest // it sets variables
	for _, name := range []string{"AWS_BUCKET", "AWS_REGION", "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL"} {
		t.Setenv(name, "")
	}
	b := &Builder{Registry: registry.New(registry.Options{})}
	for text, want := range map[string]string{
		"type=azblob":                                   "export build cache: cache type azblob needs account_url",
		"type=azblob,ignore-error=true":                 "",
		"type=azblob,account_url=https://a.example.com": "export build cache: no credentials for Azure Blob Storage",
		"type=azblob,account_url=https://a.example.com,secret_access_key=c2VjcmV0": "",
		"type=s3":                   "export build cache: cache type s3 needs bucket and region",
		"type=s3,ignore-error=true": "",
		"type=s3,bucket=b,region=r,access_key_id=a,secret_access_key=b": "",
		"type=registry,ref=example.com/cache":                           "",
	} {
		caches, err := buildspec.ParseCaches([]string{text}, true)
		if err != nil {
			t.Fatal(err)
		}
		err = b.checkObjects(&Options{Spec: buildspec.Spec{CacheTo: caches}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
