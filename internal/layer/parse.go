package layer

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/view"
)

// Bounds of the kernel's types. How much a layer may have of anything is limited by its quota.
const (
	maxID    = 1<<32 - 2 // owners
	maxMajor = 1<<12 - 1 // device numbers (Linux's dev_t)
	maxMinor = 1<<20 - 1
)

// tarParser reads somebody else's tar to its end and makes its table of contents.
type tarParser struct {
	in     countingReader
	tar    *tar.Reader
	index  *index
	quota  *quota.Quota
	buf    []byte
	tree   *treeStream // or nil
	digest bool        // of every content
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// parseTar reads r to its end, trailing bytes included, and returns the table of contents, which lacks the DiffID, and
// the number of bytes read.
func parseTar(ctx context.Context, r io.Reader) (*toc.Encoder, int64, error) {
	return (&tarParser{digest: true}).parse(ctx, r)
}

// skimTar is parseTar without the digests of the contents, which take a third of the time that a layer takes to arrive and
// which few layers are ever asked for; it makes the tar's tree if tree is not nil.
func skimTar(ctx context.Context, r io.Reader, tree *treeStream) (*toc.Encoder, int64, error) {
	return (&tarParser{tree: tree}).parse(ctx, r)
}

func (p *tarParser) parse(ctx context.Context, r io.Reader) (*toc.Encoder, int64, error) {
	var err error
	if p.quota, err = quota.New(); err != nil {
		return nil, 0, err
	}
	p.index, p.buf = newIndex("", 64), make([]byte, 64<<10)
	p.in.r = p.quota.Reader(r)
	p.tar = tar.NewReader(&p.in)
	for {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		start, err := p.nextHeader()
		if err != nil {
			return nil, 0, p.tarError(err)
		}
		h, err := p.tar.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, p.tarError(err)
		}
		if err := p.entry(ctx, h, start); err != nil {
			return nil, 0, err
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		if _, err := p.in.Read(p.buf); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, 0, err
		}
	}
	table := p.index.encode()
	table.Undigested = !p.digest
	if p.tree != nil && p.index.revised {
		if err := p.tree.giveUp(); err != nil {
			return nil, 0, err
		}
	}
	if p.tree != nil {
		if err := p.tree.finish(p.index.root); err != nil {
			return nil, 0, err
		}
	}
	return table, p.in.n, nil
}

// nextHeader reads to the end of an entry and returns where the next one's first header block stands.
func (p *tarParser) nextHeader() (int64, error) {
	_, err := io.Copy(io.Discard, struct{ io.Reader }{p.tar}) // of what is passed over
	return p.in.n + padding(p.in.n), err
}

// tarError explains what the tar reader did not like.
func (p *tarParser) tarError(err error) error {
	var packed *compression.Error
	switch {
	case errors.As(err, &packed):
		return packed
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("tar ends too early")
	case errors.Is(err, tar.ErrHeader) && p.index.count <= 1:
		return errors.New("not a tar archive")
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("tar is damaged before byte %d", p.in.n)
	}
	return err
}

// entry puts one tar entry into the index. start is where its first header block stands.
func (p *tarParser) entry(ctx context.Context, h *tar.Header, start int64) error {
	if h.Typeflag == tar.TypeXGlobalHeader || h.Typeflag == 'V' {
		return nil // archive-wide records (a git commit), a volume's label: no files
	}
	if err := p.count(h); err != nil {
		return err
	}
	name, err := entryName(h.Name)
	if err != nil {
		return err
	}
	name, what, err := readMark(name)
	if err != nil {
		return err
	}
	switch what {
	case markIgnored:
		return nil
	case markOpaque:
		return p.index.opaque(name)
	case markWhiteout:
		return p.index.add(&view.Entry{Path: name, Type: view.TypeWhiteout}, toc.Place{})
	}
	if name == "." || what == markLinked && h.Typeflag != tar.TypeReg {
		return nil
	}
	e, err := p.describe(h, name)
	if err != nil {
		return err
	}
	if e.Type == view.TypeWhiteout {
		return p.index.replace(e)
	}
	at := toc.Place{Offset: p.in.n}
	if isSparse(h) {
		at = toc.Place{Offset: start, Sparse: true}
	}
	if hasContent(e) {
		tree := p.tree
		if what == markLinked {
			tree = nil
		}
		if err := p.file(ctx, e, at, tree); err != nil {
			return err
		}
	}
	if what == markLinked {
		return p.index.hide(e, at)
	}
	return p.index.add(e, at)
}

// file reads a file's content, into its digest and the tree, if there is one to make.
func (p *tarParser) file(ctx context.Context, e *view.Entry, at toc.Place, tree *treeStream) (err error) {
	out := io.Discard
	if tree != nil {
		if out, err = tree.create(p.index, e, at); err != nil {
			return err
		}
	}
	if e.Digest, err = p.content(ctx, e, out); err != nil || tree == nil {
		return err
	}
	return tree.end()
}

// count takes an entry from the layer's quota.
func (p *tarParser) count(h *tar.Header) error {
	if err := p.quota.Entry(h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return p.quota.Content(h.Size)
	}
	return nil
}

// isSparse says whether a file's content stands in the tar in another form: GNU's old and its pax sparse formats.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// describe makes the entry of a header.
func (p *tarParser) describe(h *tar.Header, name string) (*view.Entry, error) {
	if h.Uid < 0 || h.Gid < 0 || h.Uid > maxID || h.Gid > maxID {
		return nil, fmt.Errorf("layer entry %q: no such owner as %d:%d", name, h.Uid, h.Gid)
	}
	e := &view.Entry{
		Path: name, Mode: uint32(h.Mode & 0o7777), UID: h.Uid, GID: h.Gid, ModTime: heldTime(h.ModTime),
	}
	if err := describeType(e, h); err != nil {
		return nil, err
	}
	e.Xattrs = fileXattrs(e.Type, h)
	return e, nil
}

func describeType(e *view.Entry, h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		e.Type, e.Size = view.TypeRegular, h.Size
	case tar.TypeDir:
		e.Type = view.TypeDir
	case tar.TypeFifo:
		e.Type = view.TypeFifo
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) >= maxPath {
			return fmt.Errorf("layer entry %q: a symbolic link's target must have 1 to %d bytes", e.Path, maxPath-1)
		}
		e.Type, e.Linkname, e.Mode = view.TypeSymlink, h.Linkname, 0o777 // as every Linux filesystem has it
	case tar.TypeLink:
		target, err := entryName(h.Linkname)
		if err != nil {
			return fmt.Errorf("layer entry %q: hard link to %q, outside the root", e.Path, h.Linkname)
		}
		e.Type, e.Hardlink = view.TypeRegular, target
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor {
			return fmt.Errorf("layer entry %q: no such device as %d:%d", e.Path, h.Devmajor, h.Devminor)
		}
		e.Type, e.Major, e.Minor = view.TypeChar, h.Devmajor, h.Devminor
		if h.Typeflag == tar.TypeBlock {
			e.Type = view.TypeBlock
		} else if h.Devmajor == 0 && h.Devminor == 0 {
			*e = view.Entry{Path: e.Path, Type: view.TypeWhiteout} // what overlayfs would take it for
		}
	default:
		return fmt.Errorf("layer entry %q: unknown type %q", e.Path, h.Typeflag)
	}
	return nil
}

// heldTime is a time as files have it. One that not every filesystem can hold is taken for 1970, as Docker does with those that
// nanoseconds since then cannot say; others would be cut off at a year that differs from tree to tree.
func heldTime(t time.Time) time.Time {
	if year := t.UTC().Year(); year < minYear || year > maxYear {
		return time.Unix(0, 0).UTC()
	}
	return t.UTC()
}

// fileXattrs returns the attributes of an entry that its file can have, and that are the file's own.
func fileXattrs(t view.Type, h *tar.Header) map[string]string {
	var attrs map[string]string
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if ok && view.TakesXattr(t, name) {
			set(&attrs, name, value)
		}
	}
	return attrs
}

// content copies a file's content to out, and returns its digest, if that is asked for.
func (p *tarParser) content(ctx context.Context, e *view.Entry, out io.Writer) (digest.Digest, error) {
	var hash hash.Hash
	if p.digest {
		hash = sha256.New()
	}
	for size := int64(0); ; {
		n, err := p.tar.Read(p.buf)
		if hash != nil {
			hash.Write(p.buf[:n])
		}
		if _, err := out.Write(p.buf[:n]); err != nil {
			return "", err
		}
		size += int64(n)
		if err == io.EOF && size == e.Size && hash == nil {
			return "", nil
		}
		if err == io.EOF && size == e.Size {
			return digest.NewDigest(digest.SHA256, hash), nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", fmt.Errorf("layer entry %q: %w", e.Path, p.tarError(err))
		}
		if err := ctx.Err(); err != nil {
			return "", err
		}
	}
}

// encode returns the table of contents of what add was given, in tar order. A file with several names stands where its
// content does, under the first name that is left of it.
func (x *index) encode() *toc.Encoder {
	var nodes []*node
	var collect func(n *node)
	collect = func(n *node) {
		if n.described || n.entry.Opaque || n.isDir() && len(n.kids) == 0 && n != x.root {
			nodes = append(nodes, n)
		}
		for _, kid := range n.kids {
			collect(kid)
		}
	}
	collect(x.finish())
	for _, g := range x.groups {
		if len(g.names) == 0 {
			continue
		}
		g.settle(func(a, b *node) int { return cmp.Compare(a.order, b.order) })
		g.names[0].order = g.order
	}
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(a.order, b.order) })
	t := &toc.Encoder{}
	number := make(map[*node]int)
	for i, n := range nodes {
		first := 0
		if n.links != nil {
			number[n] = i
			first = number[n.links.names[0]]
		}
		n.place.Implied = !n.described
		t.Add(n.entry, n.place, first)
	}
	return t
}
