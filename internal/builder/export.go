package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/localdir"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/transfer"
)

// Sink is a file that appears when it is committed.
type Sink interface {
	io.WriteCloser
	Commit() error
}

// Exported is the image of one output, with the full names that it has given it.
type Exported struct {
	Names []string
	Image *image.Image
	Root  ocispec.Descriptor
}

// export writes the outputs. Names change only when all outputs are written, and images are pushed only then: a push that fails leaves the
// image with its names in the store, as Docker does, so that the user can push it again.
func (b *Builder) export(ctx context.Context, s *solver.Solver, out *response, names []string, o Options) (_ *Result, err error) {
	outputs := dated(o.Outputs, o.frontendOptions())
	if len(outputs) == 0 {
		outputs = []buildspec.Output{{Type: buildspec.OutputImage}}
	}
	res := &Result{Metadata: returned(out.meta), Exports: make([]Exported, len(outputs))}
	images := map[int]*exporter{}
	defer func() {
		for _, x := range images {
			x.progress.end(err)
		}
	}()
	order := imagesLast(outputs)
	for _, i := range order {
		if outputs[i].Type == buildspec.OutputNone {
			continue
		}
		x, err := b.exportOne(ctx, s, out, names, outputs[i], &o)
		if err != nil {
			return nil, err
		}
		if x.output.Type == buildspec.OutputImage {
			images[i] = x
		}
		res.Exports[i] = *x.made()
	}
	for _, step := range []func(*exporter, context.Context) error{(*exporter).name, (*exporter).push} {
		for _, i := range order {
			if x := images[i]; x != nil {
				if err := step(x, ctx); err != nil {
					return nil, err
				}
				res.Exports[i] = *x.made()
			}
		}
	}
	for _, i := range order {
		res.add(&res.Exports[i])
	}
	if res.Image == nil {
		// Outputs that are files alone have an image ID, too.
		x := &exporter{b: b, solver: s, out: out, progress: startExport(nil, buildspec.OutputImage)}
		if err := x.assemble(ctx, buildspec.Form{}); err != nil {
			return nil, err
		}
		res.Image, res.Root = x.image, x.root
	}
	return res, nil
}

// add adds the image of an output.
func (r *Result) add(made *Exported) {
	for _, name := range made.Names {
		if !slices.Contains(r.Names, name) {
			r.Names = append(r.Names, name)
		}
	}
	if made.Image != nil {
		r.Written, r.Image, r.Root = true, made.Image, made.Root
	}
}

// imagesLast returns the outputs in the order in which they are written: images move names.
func imagesLast(outputs []buildspec.Output) []int {
	var first, last []int
	for i, e := range outputs {
		if e.Type == buildspec.OutputImage {
			last = append(last, i)
		} else {
			first = append(first, i)
		}
	}
	return append(first, last...)
}

// exportOne writes one output; an image has no names yet.
func (b *Builder) exportOne(
	ctx context.Context, s *solver.Solver, out *response, names []string, e buildspec.Output, o *Options,
) (*exporter, error) {
	own, err := out.forOutput(&e)
	if err != nil {
		return nil, err
	}
	extra, err := own.names(&e)
	if err != nil {
		return nil, err
	}
	all := append(slices.Clone(names), extra...)
	x := &exporter{b: b, solver: s, out: own, names: all, output: e, create: o.Create, client: o.Client, pushFailed: o.PushFailed, progress: startExport(o.Events, e.Type)}
	err = x.run(ctx)
	if err != nil || e.Type != buildspec.OutputImage {
		x.progress.end(err)
	}
	return x, err
}

// exporter writes one output.
type exporter struct {
	b        *Builder
	solver   *solver.Solver
	out      *response
	names    []string
	output   buildspec.Output
	create   func(dest string) (Sink, error)
	client   Client // nil for the host
	progress *exportProgress
	// pushFailed is that of the Options.
	pushFailed func(error) error
	// image is the one that was built, of several platforms that for this host; root is its manifest or the index.
	image *image.Image
	root  ocispec.Descriptor
	// notes are the annotations of root's descriptor, in an index.json and in the metadata.
	notes map[string]string
}

func (x *exporter) run(ctx context.Context) error {
	switch e := x.output; e.Type {
	case buildspec.OutputImage:
		return x.keep(ctx)
	case buildspec.OutputOCI, buildspec.OutputDocker:
		if err := x.assemble(ctx, e.Form); err != nil {
			return err
		}
		if e.Type == buildspec.OutputDocker && oci.IsIndex(x.root.MediaType) {
			return errors.New("docker exporter does not support exporting manifest lists, use type=oci or type=image instead")
		}
		notes, err := x.archiveNotes(e.Form)
		if err != nil {
			return err
		}
		items := []transfer.Item{{Image: x.image, Root: x.root, Annotations: notes, Names: x.names}}
		if e.Directory && x.client != nil {
			to, err := x.client.Store(ctx, "", exportStore)
			if err != nil {
				return err
			}
			return x.progress.step("copying files", func() error { return x.b.local().SaveFiles(ctx, &layoutWriter{ctx, to}, items) })
		}
		if e.Directory {
			return x.progress.step("copying files", func() error { return x.b.local().SaveDirectory(ctx, e.Dest, items) })
		}
		return x.archive(ctx, e, x.made(), func(w io.Writer) error { return x.b.local().Save(ctx, w, items) })
	case buildspec.OutputTar:
		v, err := x.files(ctx, e)
		if err != nil {
			return err
		}
		return x.archive(ctx, e, x.made(), func(w io.Writer) error { return transfer.Export(ctx, w, v) })
	case buildspec.OutputLocal:
		v, err := x.files(ctx, e)
		if err != nil {
			return err
		}
		return x.progress.step("copying files", func() error {
			if x.client != nil {
				return x.client.Write(ctx, e.Dest, v)
			}
			return localdir.Write(ctx, v, e.Dest, e.Delete)
		})
	}
	return fmt.Errorf("unknown output type %q", x.output.Type)
}

// archiveNotes are the annotations of the image in the index.json of an archive: with SOURCE_DATE_EPOCH, the time of the image is that.
// Otherwise there is no time, so that the same image gives the same archive.
func (x *exporter) archiveNotes(f buildspec.Form) (map[string]string, error) {
	p, err := x.out.platforms[0].withEpoch(f)
	if err != nil || p.epoch == nil || x.notes[ocispec.AnnotationCreated] != "" {
		return x.notes, err
	}
	notes := map[string]string{ocispec.AnnotationCreated: p.epoch.Format(time.RFC3339)}
	maps.Copy(notes, x.notes)
	return notes, nil
}

// keep writes the image to the store, without names. One whose layers are elsewhere is only pushed.
func (x *exporter) keep(ctx context.Context) error {
	e := &x.output
	if e.Push && len(x.names) == 0 {
		return errors.New("tag is needed when pushing to registry")
	}
	if x.out.attester.hasAny(x.out) && e.Upload.Compression != "" {
		// Attestations hold for the layers as they are: these are compressed before they are pushed.
		e.Form.Compression, e.Upload.Force = e.Upload.Compression, false
	}
	if err := x.assemble(ctx, e.Form); err != nil || len(x.out.elsewhere) > 0 {
		return err
	}
	shown := x.image.ID
	if oci.IsIndex(x.root.MediaType) {
		shown = x.root.Digest
	}
	return x.progress.step("writing image "+shown.String(), func() error {
		img, err := x.b.Images.Keep(ctx, x.root)
		if err == nil {
			x.image = img
		}
		return err
	})
}

// name moves the names to the image.
func (x *exporter) name(ctx context.Context) error {
	if len(x.out.elsewhere) > 0 {
		return nil
	}
	if !x.output.Unnamed {
		for _, name := range x.names {
			err := x.progress.step("naming to "+name, func() error { return x.b.Images.Tag(ctx, x.image, name) })
			if err != nil {
				return err
			}
		}
	}
	return x.nameByDigest(ctx, &x.output)
}

// nameByDigest gives the image names with its digest, if the output asks for them.
func (x *exporter) nameByDigest(ctx context.Context, e *buildspec.Output) error {
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

// push pushes the image under each of its names, if that is asked for.
func (x *exporter) push(ctx context.Context) error {
	e := &x.output
	if !e.Push && len(x.out.elsewhere) == 0 {
		return nil
	}
	o, built := transfer.PushOptions{Compression: e.Upload.Compression, Level: e.Upload.Level, Force: e.Upload.Force}, x.root
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
		done := x.progress.begin("pushing layers")
		o.Manifest = func(d ocispec.Descriptor) {
			done()
			done = x.progress.begin("pushing manifest for " + name + "@" + d.Digest.String())
		}
		got, err := transfer.Push(ctx, x.b.Registry, x.b.local(), named, built, o)
		done()
		if err != nil && x.pushFailed != nil {
			if err = x.pushFailed(err); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		x.root = got.Root
	}
	return nil
}

// archive writes a file, of made if that is an image.
func (x *exporter) archive(ctx context.Context, e buildspec.Output, made *Exported, write func(io.Writer) error) error {
	w, err := x.open(ctx, e.Dest, made)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	return x.progress.step("sending tarball", func() error {
		err := write(w)
		if err == nil {
			err = w.Commit()
		}
		if errors.Is(err, ErrExists) {
			return nil
		}
		return err
	})
}

func (x *exporter) open(ctx context.Context, dest string, made *Exported) (Sink, error) {
	if x.client != nil {
		return x.client.File(ctx, dest, made)
	}
	return x.create(dest)
}

// made is the image as it was exported.
func (x *exporter) made() *Exported {
	made := &Exported{Image: x.image, Root: x.root}
	made.Root.Annotations = x.notes
	if x.output.IsImage() {
		made.Names = x.names
	}
	return made
}
