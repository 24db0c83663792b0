package buildspec

import "strings"

// AzureCache is a cache of type azblob, with the attributes of BuildKit. What is not given, the environment has.
type AzureCache struct {
	// URL is that of the storage account. It may have a shared access signature.
	URL, Account, Key, Container string
	Prefix, Blobs, Manifests     string
	// Name is that of the manifest, or several with semicolons between them.
	Name string
}

var azureAttributes = []string{
	"account_url", "account_name", "secret_access_key", "container", "prefix", "blobs_prefix", "manifests_prefix", "name",
}

// newAzureCache has the defaults of BuildKit.
func newAzureCache() AzureCache {
	return AzureCache{Blobs: "blobs", Manifests: "manifests", Name: DefaultScope}
}

func (a *AzureCache) set(key, value string) {
	*map[string]*string{
		"account_url": &a.URL, "account_name": &a.Account, "secret_access_key": &a.Key, "container": &a.Container, "prefix": &a.Prefix,
		"blobs_prefix": &a.Blobs, "manifests_prefix": &a.Manifests, "name": &a.Name,
	}[key] = value
}

// withoutSignature hides the query of a URL.
func withoutSignature(url string) string {
	at, query, ok := strings.Cut(url, "?")
	if ok && query != "" {
		return at + "?xxxxx"
	}
	return url
}
