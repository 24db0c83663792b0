package remotecache

import (
	"context"
	"crypto/sha256"
	"io"
	"path"
	"runtime"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/view"
)

// selection is a part of a filesystem that an operation reads (solver/llbsolver/ops/opsutils/contenthash.go, Selector).
type selection struct {
	path                       string
	wildcard, follow           bool
	include, exclude, required []string
}

func (s selection) filtered() bool { return s.wildcard || len(s.include) > 0 || len(s.exclude) > 0 }

// contentDigest returns the digest of selections of a filesystem, or of all of it without selections (NewContentHashFunc).
func contentDigest(ctx context.Context, v view.View, local bool, list []selection, sums *Sums) (digest.Digest, error) {
	if len(list) == 0 {
		list = []selection{{}}
	}
	c := &checksums{view: v, local: local, sums: sums, known: map[string]digest.Digest{}}
	parts := make([][]byte, len(list))
	for i, s := range list {
		s.path = path.Join("/", s.path)
		d, err := c.selection(ctx, s)
		if err != nil {
			return "", err
		}
		parts[i] = []byte(d)
	}
	return listDigest(parts), nil
}

// checksums computes digests of files as BuildKit does (cache/contenthash/checksum.go).
type checksums struct {
	view  view.View
	local bool
	sums  *Sums

	mu    sync.Mutex
	known map[string]digest.Digest // by path: of a file itself, of a directory's header
}

func (c *checksums) selection(ctx context.Context, s selection) (digest.Digest, error) {
	if !s.filtered() {
		return c.path(ctx, s.path, s.follow)
	}
	return c.matching(ctx, s)
}

// path returns the digest of a file, or of a directory and everything below it (lazyChecksum).
func (c *checksums) path(ctx context.Context, name string, follow bool) (digest.Digest, error) {
	name, err := view.Resolve(ctx, c.view, name, follow)
	if err != nil {
		return "", err
	}
	e, err := c.view.Lstat(ctx, name)
	if err != nil {
		return "", err
	}
	if !e.IsDir() {
		return c.file(ctx, e)
	}
	if err := c.prepare(ctx, e); err != nil {
		return "", err
	}
	return c.tree(ctx, e)
}

// tree returns the digest of a directory and everything below it: its header, then its children by name.
func (c *checksums) tree(ctx context.Context, dir *view.Entry) (digest.Digest, error) {
	own, err := c.file(ctx, dir)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, _ = io.WriteString(h, "\x00"+own.String())
	kids, err := c.view.ReadDir(ctx, dir.Path)
	if err != nil {
		return "", err
	}
	for _, e := range kids {
		sum := c.file
		if e.IsDir() {
			sum = c.tree
		}
		d, err := sum(ctx, e)
		if err != nil {
			return "", err
		}
		_, _ = io.WriteString(h, "\x00"+path.Base(e.Path)+d.String())
	}
	return digest.NewDigest(digest.SHA256, h), nil
}

// file returns the digest of a file, or of a directory's header. The root of a build context has no header.
func (c *checksums) file(ctx context.Context, e *view.Entry) (digest.Digest, error) {
	if c.local && e.Path == "." {
		return digest.FromBytes(nil), nil
	}
	c.mu.Lock()
	d, ok := c.known[e.Path]
	c.mu.Unlock()
	if ok {
		return d, nil
	}
	d, err := c.compute(ctx, e)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[e.Path] = d
	return d, nil
}

func (c *checksums) compute(ctx context.Context, e *view.Entry) (digest.Digest, error) {
	head := header(e, c.local)
	if e.Type != view.TypeRegular || e.Size == 0 {
		return digest.FromString(head), nil
	}
	content, err := c.view.Digest(ctx, e.Path)
	if err != nil {
		return "", err
	}
	return c.sums.get(head, content, func() (digest.Digest, error) { return c.read(ctx, head, e) })
}

func (c *checksums) read(ctx context.Context, head string, e *view.Entry) (digest.Digest, error) {
	f, err := c.view.Open(ctx, e.Path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	_, _ = io.WriteString(h, head)
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, h), nil
}

// prepare computes the digests of all files below a directory, in parallel.
func (c *checksums) prepare(ctx context.Context, dir *view.Entry) error {
	var files []*view.Entry
	var walk func(dir *view.Entry) error
	walk = func(dir *view.Entry) error {
		kids, err := c.view.ReadDir(ctx, dir.Path)
		if err != nil {
			return err
		}
		for _, e := range kids {
			switch {
			case e.IsDir():
				err = walk(e)
			case e.Type == view.TypeRegular:
				files = append(files, e)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(dir); err != nil {
		return err
	}
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(runtime.GOMAXPROCS(0))
	const batch = 64
	for at := 0; at < len(files); at += batch {
		eg.Go(crash.Guard(func() error {
			for _, e := range files[at:min(at+batch, len(files))] {
				if _, err := c.file(ctx, e); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return eg.Wait()
}

// hasWildcard reports whether path.Match would treat name as a pattern.
func hasWildcard(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// splitWildcards cuts a pattern before its first component with a wildcard.
func splitWildcards(pattern string) (base, rest string) {
	parts := strings.Split(pattern, "/")
	n := 0
	for n < len(parts) && !hasWildcard(parts[n]) {
		n++
	}
	return path.Join("/", strings.Join(parts[:n], "/")), strings.Join(parts[n:], "/")
}
