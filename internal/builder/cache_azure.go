package builder

import (
	"cmp"
	"errors"
	"os"
	"strings"

	"github.com/micabuild/mica/internal/azurecache"
	"github.com/micabuild/mica/internal/buildspec"
)

// openAzure opens a cache of type azblob, without a request. What is not given is taken from the environment of the host, but for a client,
// which has no part in what the host may.
func (b *Builder) openAzure(c *buildspec.Cache, client Client) (*azurecache.Cache, error) {
	a := c.Azure
	if client == nil {
		a.URL = cmp.Or(a.URL, os.Getenv("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL"))
		a.Account = cmp.Or(a.Account, os.Getenv("BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME"))
		a.Container = cmp.Or(a.Container, os.Getenv("BUILDKIT_AZURE_STORAGE_CONTAINER"))
		a.Prefix = cmp.Or(a.Prefix, os.Getenv("BUILDKIT_AZURE_STORAGE_PREFIX"))
	}
	if a.URL == "" {
		return nil, errors.New("cache type azblob needs account_url, or BUILDKIT_AZURE_STORAGE_ACCOUNT_URL in the environment of mica")
	}
	return azurecache.New(azurecache.Options{
		URL: a.URL, Account: a.Account, Key: a.Key, Container: cmp.Or(a.Container, "buildkit-cache"), Prefix: a.Prefix, Blobs: a.Blobs,
		Manifests: a.Manifests, Names: strings.Split(a.Name, ";"), Objects: b.Registry.Objects(),
	})
}
