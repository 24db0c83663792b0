package inspect

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/seekable"
	"github.com/micabuild/mica/internal/view"
)

// tables are the tables of contents that were read in registries: images have layers in common.
type tables struct {
	known sync.Map
	mu    sync.Mutex // of notes
}

// noting returns note for several goroutines; nil if note is.
func (t *tables) noting(note func(text string)) func(text string) {
	if note == nil {
		return nil
	}
	return func(text string) {
		t.mu.Lock()
		defer t.mu.Unlock()
		note(text)
	}
}

// once returns a function that reads the table of a blob with list, if that has not been done.
func (t *tables) once(d ocispec.Descriptor, list func(context.Context) (*seekable.Layer, error)) func(context.Context) (*seekable.Layer, error) {
	key := d.Digest.String() + " " + seekable.Key(d)
	return func(ctx context.Context) (*seekable.Layer, error) {
		if l, ok := t.known.Load(key); ok {
			return l.(*seekable.Layer), nil
		}
		l, err := list(ctx)
		if err != nil {
			return nil, err
		}
		first, _ := t.known.LoadOrStore(key, l)
		return first.(*seekable.Layer), nil
	}
}

// foreignLayer is a layer of which the table of contents was read where it is.
type foreignLayer struct {
	layer  *Layer
	listed *seekable.Layer
}

func (f *foreignLayer) Files() (*index.Node, error) { return f.listed.Files() }

// Open opens a file. The layer is fetched if that is needed.
func (f *foreignLayer) Open(ctx context.Context, n *index.Node) (io.ReadCloser, error) {
	r, err := f.listed.Open(ctx, n)
	if !errors.Is(err, seekable.ErrWhole) {
		return r, err
	}
	v, err := f.layer.View(ctx)
	if err != nil {
		return nil, err
	}
	return v.Open(ctx, n.Entry.Path)
}

// Browse is View for a caller that reads few files. If the layer has a table of contents in the registry, each file is fetched alone, when it
// is opened.
func (l *Layer) Browse(ctx context.Context) (view.View, error) {
	if l.host != nil {
		return l.host.view()
	}
	listed, err := l.look(ctx)
	if err != nil {
		return nil, err
	}
	if listed == nil {
		return l.View(ctx)
	}
	return l.layers.ViewWith(ctx, []digest.Digest{l.DiffID}, map[digest.Digest]layer.Foreign{l.DiffID: &foreignLayer{l, listed}})
}

// ReadFiles calls visit with the content of regular files of the layer, in any order, until it fails. It fetches the layer, or, of one that
// has a table of contents in the registry, only the files, if that is less.
func (l *Layer) ReadFiles(ctx context.Context, paths []string, visit func(path string, content io.Reader) error) error {
	if l.host != nil {
		return readFiles(ctx, l, paths, visit)
	}
	listed, err := l.look(ctx)
	if err != nil {
		return err
	}
	if listed != nil {
		if err := listed.ReadFiles(ctx, paths, visit); !errors.Is(err, seekable.ErrWhole) {
			return err
		}
		if err := l.Fetch(ctx); err != nil {
			return err
		}
	}
	return l.layers.ReadFiles(ctx, l.DiffID, paths, visit)
}

// readFiles reads files of a directory of the host.
func readFiles(ctx context.Context, l *Layer, paths []string, visit func(path string, content io.Reader) error) error {
	files, err := l.host.view()
	if err != nil {
		return err
	}
	for _, p := range paths {
		if err := readFile(ctx, files, p, visit); err != nil {
			return err
		}
	}
	return nil
}

func readFile(ctx context.Context, files view.View, path string, visit func(path string, content io.Reader) error) (err error) {
	f, err := files.Open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return visit(path, f)
}
