package layer

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/view"
)

// Clamp makes a copy of a layer in which no file is newer than latest. A layer without such files is returned as it is.
func (l *Layers) Clamp(ctx context.Context, id digest.Digest, latest time.Time) (digest.Digest, error) {
	t, err := l.TOC(ctx, id)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(t.Entries, func(e *view.Entry) bool { return e.ModTime.After(latest) }) {
		return id, nil
	}
	if slices.ContainsFunc(t.Places, func(p toc.Place) bool { return p.Implied }) {
		clamped, err := l.clampTar(ctx, id, latest)
		if err != nil {
			return "", fail(id, err)
		}
		return clamped, nil
	}
	own, err := l.View(ctx, []digest.Digest{id})
	if err != nil {
		return "", err
	}
	changes := make([]view.Change, len(t.Entries))
	for i, e := range t.Entries {
		if e.ModTime.After(latest) {
			e = e.Clone()
			e.ModTime = latest
		}
		changes[i].Entry = e
		if convert.HasContent(e) {
			changes[i].Source, changes[i].SourcePath = own, e.Path
		}
	}
	clamped, err := l.Write(ctx, changes, AsBlob)
	if err != nil {
		return "", fail(id, err)
	}
	return clamped.DiffID, nil
}

// clampTar is Clamp for a layer that changes directories which it has no entries for, with opaque markers or removals
// in them: they keep the owner and the mode of the layer below, so none may get an entry.
func (l *Layers) clampTar(ctx context.Context, id digest.Digest, latest time.Time) (_ digest.Digest, err error) {
	in, err := l.OpenTar(ctx, id)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, into := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		into.CloseWithError(crash.Guard(func() error { return clampHeaders(into, in, latest) })())
	}()
	got, _, err := l.Ingest(ctx, out, "", "")
	out.CloseWithError(io.ErrClosedPipe)
	<-done
	if err != nil {
		return "", err
	}
	return got.DiffID, nil
}

// clampHeaders copies a tar with no time later than latest.
func clampHeaders(w io.Writer, r io.Reader, latest time.Time) error {
	from, to := tar.NewReader(r), tar.NewWriter(w)
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			return to.Close()
		}
		if err != nil {
			return err
		}
		if h.ModTime.After(latest) {
			h.ModTime = latest
			delete(h.PAXRecords, "mtime")
		}
		if err := to.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(to, from); err != nil { //nolint:gosec // Ingest bounds what it reads
			return err
		}
	}
}

// Compress makes a blob of a layer with an algorithm and a level, 0 for the default, and returns its descriptor. A blob that
// was made before is used again.
func (l *Layers) Compress(ctx context.Context, id digest.Digest, a compression.Algorithm, level int) (_ ocispec.Descriptor, err error) {
	none, recipe := ocispec.Descriptor{}, compression.Recipe(a, level)
	for _, s := range l.KnownBlobs(id) {
		if size, err := l.store.StatBlob(s.Blob.Digest); err == nil && s.Recipe == recipe && size == s.Blob.Size {
			return s.Blob, nil
		}
	}
	tar, err := l.OpenTar(ctx, id)
	if err != nil {
		return none, err
	}
	defer func() { _ = tar.Close() }()
	blob, err := l.store.NewBlob()
	if err != nil {
		return none, fail(id, err)
	}
	defer func() { _ = blob.Close() }()
	z, err := compression.NewWriter(blob, a, level)
	if err != nil {
		return none, err
	}
	_, err = io.Copy(z, tar)
	if err := errors.Join(err, z.Close()); err != nil {
		return none, fail(id, err)
	}
	name, err := blob.Commit("")
	if err != nil {
		return none, fail(id, err)
	}
	desc := ocispec.Descriptor{MediaType: oci.LayerType(string(a)), Digest: name, Size: blob.Size()}
	return desc, l.AddKnownBlob(id, KnownBlob{Blob: desc, Recipe: recipe})
}
