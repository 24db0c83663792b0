package layer

import (
	"errors"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
)

// summary reads the first bytes of a table of contents: toc.ErrDamaged, store.ErrNotFound.
func (l *Layers) summary(id digest.Digest) (toc.Summary, error) {
	if err := validID(id); err != nil {
		return toc.Summary{}, err
	}
	path := l.path(id, tocFile)
	if s, ok := l.summaries.Load(id); ok {
		return s.(toc.Summary), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return toc.Summary{}, l.tocError(id, err)
	}
	defer func() { _ = f.Close() }()
	var head [toc.SummarySize]byte
	n, _ := f.Read(head[:])
	s, err := toc.DecodeSummary(head[:n], id)
	if err != nil {
		return toc.Summary{}, fail(id, err)
	}
	l.summaries.Store(id, s)
	return s, nil
}

// tocError distinguishes a layer that does not exist from one whose table of contents is gone.
func (l *Layers) tocError(id digest.Digest, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return fail(id, err)
	}
	if _, err := os.Lstat(l.path(id)); err == nil {
		return fail(id, toc.ErrDamaged)
	}
	return fail(id, store.ErrNotFound)
}

// loadTOC reads a table of contents: toc.ErrDamaged, store.ErrNotFound.
func (l *Layers) loadTOC(id digest.Digest) (*toc.Table, error) { return decodeTOC(l, id, toc.Decode) }

// decodeTOC reads a table of contents in the form that decode gives it.
func decodeTOC[T any](l *Layers, id digest.Digest, decode func([]byte, digest.Digest) (*T, error)) (*T, error) {
	if err := validID(id); err != nil {
		return nil, err
	}
	file, err := os.ReadFile(l.path(id, tocFile))
	if err != nil {
		return nil, l.tocError(id, err)
	}
	t, err := decode(file, id)
	if err != nil {
		return nil, fail(id, err)
	}
	return t, nil
}

// storeTOC replaces a table of contents, and returns it decoded. The caller holds the layer's lock.
func (l *Layers) storeTOC(id digest.Digest, file []byte, write func(path string, data []byte) error) (*toc.Table, error) {
	if err := write(l.path(id, tocFile), file); err != nil {
		return nil, fail(id, err)
	}
	l.summaries.Delete(id)
	t, err := toc.Decode(file, id)
	if err != nil {
		return nil, fail(id, err)
	}
	return t, nil
}
