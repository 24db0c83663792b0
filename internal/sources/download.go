package sources

import (
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// download is the content of a file that no source has used yet.
type download struct {
	digest digest.Digest
	temp   *store.Temp
}

// keep keeps a download until a source takes it, or until Close.
func (f *Fetcher) keep(key string, d *download) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.downloads == nil {
		f.downloads = map[string]*download{}
	}
	if old := f.downloads[key]; old != nil {
		f.replaced = append(f.replaced, old)
	}
	f.downloads[key] = d
}

// take returns the download with this content, which is then the caller's; nil if it is not there.
func (f *Fetcher) take(key string, content digest.Digest) *store.Temp {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.downloads[key]
	if !ok || d.digest != content {
		return nil
	}
	delete(f.downloads, key)
	return d.temp
}
