package seekable

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/view"
)

// maxChunk limits a chunk, decompressed: it is in memory until it is verified.
const maxChunk = 32 << 20

// ErrWhole is the error of content that is better read, or can only be read, when the whole blob has been fetched.
var ErrWhole = errors.New("the file cannot be read without the rest of the layer")

// ContentError is the error of a file whose content is not the one that the table of contents has.
type ContentError struct{ Path string }

func (e *ContentError) Error() string {
	return fmt.Sprintf("the content of %q is not the one that the table of contents of its layer names: pull the image to see what it has", e.Path)
}

// place is where the content of a file is in the blob.
type place struct {
	node     *index.Node
	from, to int64
	chunks   []chunk
}

// find returns the place of the content of a regular file that is not empty: ErrWhole.
func (l *Layer) find(n *index.Node) (*place, error) {
	i, ok := slices.BinarySearchFunc(l.contents, n.Place.Offset, func(c content, at int64) int { return cmp.Compare(c.at, at) })
	if !ok || l.contents[i].count == 0 {
		return nil, ErrWhole
	}
	c := l.contents[i]
	p := &place{node: n, chunks: l.chunks[c.first : c.first+c.count]}
	if p.chunks[0].skip > maxChunk {
		return nil, ErrWhole
	}
	for _, c := range p.chunks {
		if c.size > maxChunk || !c.known && len(p.chunks) > 1 {
			return nil, ErrWhole
		}
	}
	next, _ := slices.BinarySearch(l.starts, p.chunks[len(p.chunks)-1].start+1)
	p.from, p.to = p.chunks[0].start, l.starts[next]
	return p, nil
}

// Open reads a regular file of the layer. Its content is verified before it is returned. ErrWhole is the error of one that cannot be
// read alone.
func (l *Layer) Open(ctx context.Context, n *index.Node) (io.ReadCloser, error) {
	if n.Entry.Size == 0 {
		return io.NopCloser(strings.NewReader("")), nil
	}
	p, err := l.find(n)
	if err != nil {
		return nil, err
	}
	body, err := l.read(ctx, p.from, p.to)
	if err != nil {
		return nil, err
	}
	r, err := p.open(body)
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	return &opened{r, body}, nil
}

// opened closes what a content is read from, too.
type opened struct {
	*reader
	body io.Closer
}

func (o *opened) Close() error { return errors.Join(o.reader.Close(), o.body.Close()) }

// open reads the content of the blob's bytes that place is about.
func (p *place) open(packed io.Reader) (*reader, error) {
	in, _, err := compression.NewReader(packed)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, in, p.chunks[0].skip); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return &reader{in: in, place: p, rest: p.chunks, sum: sha256.New()}, nil
}

// reader reads a file by its chunks.
type reader struct {
	in    io.ReadCloser
	place *place
	rest  []chunk
	sum   hash.Hash // of the chunks so far
	chunk []byte
	left  []byte // of chunk
}

func (r *reader) Close() error { return r.in.Close() }

func (r *reader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		if len(r.rest) == 0 {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// next reads a chunk and verifies it. With the last, the content as a whole is verified.
func (r *reader) next() error {
	c := r.rest[0]
	r.rest = r.rest[1:]
	r.chunk = slices.Grow(r.chunk[:0], int(c.size))[:c.size]
	wrong := &ContentError{r.place.node.Entry.Path}
	if _, err := io.ReadFull(r.in, r.chunk); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return wrong
		}
		return fmt.Errorf("read %q: %w", wrong.Path, err)
	}
	r.sum.Write(r.chunk)
	if c.known && sha256.Sum256(r.chunk) != c.sum {
		return wrong
	}
	if len(r.rest) == 0 && digest.NewDigest(digest.SHA256, r.sum) != r.place.node.Entry.Digest {
		return wrong
	}
	r.left = r.chunk
	return nil
}

// The limits of what ReadFiles reads in parts. Files that are near to each other in the blob are one part.
const (
	maxParts = 200
	maxPart  = 8 << 20
	maxGap   = 32 << 10
)

// ReadFiles calls visit with the contents of regular files, in any order, until it fails. Contents are verified first. ErrWhole is the
// error, before the first call, of files that are not a small part of the blob.
func (l *Layer) ReadFiles(ctx context.Context, paths []string, visit func(path string, content io.Reader) error) error {
	parts, err := l.plan(paths)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := l.readPart(ctx, part, visit); err != nil {
			return err
		}
	}
	return nil
}

// plan puts files that are near to each other in the blob together.
func (l *Layer) plan(paths []string) ([][]*place, error) {
	root, err := l.Files()
	if err != nil {
		return nil, err
	}
	var all []*place
	for _, path := range paths {
		n := root.Descend(path)
		switch {
		case n == nil || n.Entry.Type != view.TypeRegular:
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		case n.Entry.Size == 0:
			all = append(all, &place{node: n})
			continue
		}
		p, err := l.find(n)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *place) int { return cmp.Compare(a.from, b.from) })
	var parts [][]*place
	total := int64(0)
	for i, p := range all {
		last := len(parts) - 1
		if i > 0 && p.from <= all[i-1].to+maxGap && p.to-parts[last][0].from <= maxPart {
			total += max(0, p.to-all[i-1].to)
			parts[last] = append(parts[last], p)
			continue
		}
		total += p.to - p.from
		parts = append(parts, []*place{p})
	}
	if len(parts) > maxParts || total > l.size/2 {
		return nil, ErrWhole
	}
	return parts, nil
}

// readPart reads files that are near to each other.
func (l *Layer) readPart(ctx context.Context, part []*place, visit func(path string, content io.Reader) error) error {
	from, to := part[0].from, int64(0)
	for _, p := range part {
		to = max(to, p.to)
	}
	if len(part) == 1 && to > 0 {
		return l.visit(ctx, part[0].node, visit)
	}
	var packed []byte
	if to > 0 {
		var err error
		if packed, err = l.read.readAll(ctx, from, to); err != nil {
			return err
		}
	}
	for _, p := range part {
		if err := p.visit(packed, from, visit); err != nil {
			return err
		}
	}
	return nil
}

// visit reads one file of the blob's bytes from a position on.
func (p *place) visit(packed []byte, from int64, visit func(path string, content io.Reader) error) (err error) {
	if p.to == 0 {
		return visit(p.node.Entry.Path, strings.NewReader(""))
	}
	r, err := p.open(bytes.NewReader(packed[p.from-from : p.to-from]))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return visit(p.node.Entry.Path, r)
}

// visit reads one file.
func (l *Layer) visit(ctx context.Context, n *index.Node, visit func(path string, content io.Reader) error) (err error) {
	r, err := l.Open(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return visit(n.Entry.Path, r)
}
