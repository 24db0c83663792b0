package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/archive"
	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/transfer"
	"github.com/micabuild/mica/internal/view"
)

// Export types, as `docker build --output type=…` names them.
const (
	ExportImage  = "image"     // an image in the store
	ExportOCI    = "oci"       // an OCI layout, in a tar or as a folder
	ExportDocker = "docker"    // a Docker archive
	ExportTar    = "tar"       // the root filesystem as a tar
	ExportLocal  = "local"     // the root filesystem as a folder
	ExportNone   = "cacheonly" // nothing: the steps are in the cache
)

// Export is one thing to make of a build's result.
type Export struct {
	Type string
	// Names are further names for the image, for image, oci and docker.
	Names []string
	// Create opens where an archive is written; Commit makes it visible. For oci, docker and tar.
	Create func() (Sink, error)
	// Dir is the folder that local writes to, and oci where it is not to be a tar.
	Dir string
	// Split puts each platform into a folder of its own, for local and tar; nil does so where there are several.
	Split *bool
	// Remove removes from the folder what the build does not have, for local.
	Remove bool
	// Push sends an image, once it is named, to the registries of its names.
	Push bool
	// Absent lets an image be pushed, or only be built, whose layers are at registries, and leaves them there: then the store does not
	// get it. For image with Push, and for cacheonly.
	Absent bool
	// Unnamed leaves the store's names as they are, and pushes by digest where it pushes.
	Unnamed bool
	// Upload says how; for Push. Insecure lets the registry be one without TLS.
	Upload   transfer.PushOptions
	Insecure bool
	// Canonical names the image by its digest, too. Dangling is a repository that does so beside the names; with DanglingOnly
	// it is for images without one.
	Canonical    bool
	Dangling     string
	DanglingOnly bool
	// StatementPrefix begins the names of the files with attestations, for local and tar.
	StatementPrefix string
	// Form is how the image is written.
	Form Form
}

// Form is what an image looks like: the attributes of BuildKit's image exporter (docs/exporters).
type Form struct {
	// Annotations by their keys as BuildKit has them: "annotation-index.org.example=…" is "annotation-index.org.example".
	Annotations map[string]string
	// DockerTypes gives the image Docker's media types.
	DockerTypes bool
	// Compression packs the layers, with a level (0 for the default); "" leaves them as they are in the store.
	Compression      compression.Algorithm
	Level            int
	ForceCompression bool // of layers that are compressed otherwise, too
	// Epoch is what no time of the image is later than, and the time of all that local and tar put out, in seconds since
	// 1970; "" for SOURCE_DATE_EPOCH of the build.
	Epoch string
	// Artifact writes attestations as artifacts whose subject is the image (image-spec, manifest.md, "subject").
	Artifact bool
	// RewriteTimestamp clamps the files of the layers that were built, too.
	RewriteTimestamp bool
}

// Sink is a file that appears when it is whole.
type Sink interface {
	io.WriteCloser
	Commit() error
}

// export makes what was asked of the result: names change only when everything else has succeeded.
func (b *Builder) export(ctx context.Context, s *solver.Solver, out *answer, names []string, o Options) (*Result, error) {
	exports := o.Exports
	if len(exports) == 0 {
		exports = []Export{{Type: ExportImage}}
	}
	// Images come last: names move only when nothing else can fail.
	exports = slices.Clone(exports)
	slices.SortStableFunc(exports, func(a, b Export) int { return compareBool(a.Type == ExportImage, b.Type == ExportImage) })
	res := &Result{}
	for _, e := range exports {
		if e.Type == ExportNone {
			continue
		}
		extra, err := parseTags(e.Names)
		if err != nil {
			return nil, err
		}
		all := append(slices.Clone(names), extra...)
		x := &exporter{b: b, solver: s, out: out, names: all, progress: startExport(o.Events, e.Type)}
		err = x.run(ctx, e)
		x.progress.end(err)
		if err != nil {
			return nil, err
		}
		for _, name := range all {
			if !slices.Contains(res.Names, name) {
				res.Names = append(res.Names, name)
			}
		}
		if x.root.Digest != "" {
			res.Written = true
			res.Image, res.Root = x.image, x.root
			res.Root.Annotations = x.notes
		}
	}
	if res.Image == nil {
		// What was only written out as files has an ID, too.
		x := &exporter{b: b, solver: s, out: out, progress: startExport(nil, ExportImage)}
		if err := x.assemble(ctx, Form{}); err != nil {
			return nil, err
		}
		res.Image, res.Root = x.image, x.root
	}
	return res, nil
}

// exporter is one export under way.
type exporter struct {
	b        *Builder
	solver   *solver.Solver
	out      *answer
	names    []string
	progress *exportProgress
	// image is what was built, of several platforms that for this host, and root its manifest or the index.
	image *image.Image
	root  ocispec.Descriptor
	// notes are the annotations of root, where it is described: in an index.json, and to the user.
	notes map[string]string
}

func (x *exporter) run(ctx context.Context, e Export) error {
	switch e.Type {
	case ExportImage:
		return x.keep(ctx, e)
	case ExportOCI, ExportDocker:
		if err := x.assemble(ctx, e.Form); err != nil {
			return err
		}
		if e.Type == ExportDocker && oci.IsIndex(x.root.MediaType) {
			return errors.New("docker exporter does not support exporting manifest lists, use type=oci or type=image instead")
		}
		items := []archive.Item{{Image: x.image, Root: x.root, Annotations: x.notes, Names: x.names}}
		if e.Dir != "" {
			return x.progress.step("copying files", func() error { return x.b.archives().SaveFolder(ctx, e.Dir, items) })
		}
		return x.archive(e, func(w io.Writer) error { return x.b.archives().Save(ctx, w, items) })
	case ExportTar:
		v, err := x.files(ctx, e)
		if err != nil {
			return err
		}
		return x.archive(e, func(w io.Writer) error { return archive.Export(ctx, w, v) })
	case ExportLocal:
		v, err := x.files(ctx, e)
		if err != nil {
			return err
		}
		return x.progress.step("copying files", func() error { return view.WriteFolder(ctx, v, e.Dir, e.Remove) })
	}
	return fmt.Errorf("unknown output type %q", e.Type)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// keep records the image, points the names at it, and sends it where it is to go.
func (x *exporter) keep(ctx context.Context, e Export) error {
	if x.out.testimony.any(x.out) && e.Upload.Compression != "" {
		// What is said of an image holds for its layers as they are: they are made as they are to be pushed.
		e.Form.Compression, e.Upload.Force = e.Upload.Compression, false
	}
	if err := x.assemble(ctx, e.Form); err != nil {
		return err
	}
	if len(x.out.elsewhere) > 0 {
		return x.push(ctx, e)
	}
	shown := x.image.ID
	if oci.IsIndex(x.root.MediaType) {
		shown = x.root.Digest
	}
	err := x.progress.step("writing image "+shown.String(), func() error {
		img, err := x.b.Images.Keep(ctx, x.root)
		if err == nil {
			x.image = img
		}
		return err
	})
	if err != nil {
		return err
	}
	if !e.Unnamed {
		for _, name := range x.names {
			err := x.progress.step("naming to "+name, func() error { return x.b.Images.Tag(ctx, x.image, name) })
			if err != nil {
				return err
			}
		}
	}
	if err := x.nameByDigest(ctx, e); err != nil || !e.Push {
		return err
	}
	return x.push(ctx, e)
}

// nameByDigest gives the image names that end in its digest, where they are asked for.
func (x *exporter) nameByDigest(ctx context.Context, e Export) error {
	var repositories []string
	if e.Canonical && !e.Unnamed {
		repositories = x.names
	}
	if e.Dangling != "" && (len(x.names) == 0 || !e.DanglingOnly) {
		repositories = append(repositories, e.Dangling)
	}
	for _, r := range repositories {
		named, err := reference.ParseNormalizedNamed(r)
		if err != nil {
			return fmt.Errorf("invalid name %q: %w", r, err)
		}
		if _, err := x.b.Images.Keep(ctx, x.root, named.Name()+"@"+x.root.Digest.String()); err != nil {
			return err
		}
	}
	return nil
}

// push sends the image under each of its names.
func (x *exporter) push(ctx context.Context, e Export) error {
	if len(x.names) == 0 {
		return errors.New("tag is needed when pushing to registry")
	}
	o, built := e.Upload, x.root
	for _, name := range x.names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return err
		}
		if e.Insecure {
			x.b.Registry.AllowInsecure(named)
		}
		if e.Unnamed {
			named = reference.TrimNamed(named)
			o.ByDigest = true
		}
		o.Progress, o.Elsewhere = x.progress.layer, x.out.elsewhere
		var got *transfer.Pushed
		err = x.progress.step("pushing "+name, func() (err error) {
			got, err = transfer.Push(ctx, x.b.Registry, x.b.local(), named, built, o)
			return err
		})
		if err != nil {
			return err
		}
		x.root = got.Root
	}
	return nil
}

func (x *exporter) archive(e Export, write func(io.Writer) error) error {
	w, err := e.Create()
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	return x.progress.step("sending tarball", func() error {
		if err := write(w); err != nil {
			return err
		}
		return w.Commit()
	})
}

func (b *Builder) archives() *archive.Archives {
	return &archive.Archives{Store: b.Store, Layers: b.Layers, Images: b.Images}
}
