package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/micabuild/mica/internal/bake"
	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/compression"
)

// parseOutputs reads all --output. One without text says nothing, as for buildx.
func parseOutputs(app *App, list []string) ([]builder.Export, error) {
	var all []builder.Export
	for _, s := range list {
		if s == "" {
			continue
		}
		e, err := parseOutput(app, s)
		if err != nil {
			return nil, err
		}
		all = append(all, *e)
	}
	return all, nil
}

// parseOutput reads "type=oci,dest=FILE", or a bare path for type=local, or "-" for type=tar to stdout.
func parseOutput(app *App, s string) (*builder.Export, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return nil, fmt.Errorf("invalid output %q: %w", s, err)
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") {
		if fields[0] == "-" {
			return newExport(app, map[string]string{"type": builder.ExportTar, "dest": "-"})
		}
		return newExport(app, map[string]string{"type": builder.ExportLocal, "dest": fields[0]})
	}
	attrs := map[string]string{}
	for _, f := range fields {
		k, v, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("invalid value %s in output %q: expected key=value", f, s)
		}
		attrs[strings.ToLower(strings.TrimSpace(k))] = v
	}
	return newExport(app, attrs)
}

// exportRegistry is an image that is pushed, as `--push` asks for.
const exportRegistry = "registry"

// newExport reads the attributes of an output, as BuildKit has them (docs/exporters). An attribute that begins with
// "annotation" is one of the image's.
func newExport(app *App, attrs map[string]string) (*builder.Export, error) {
	kind := attrs["type"]
	delete(attrs, "type")
	e := &builder.Export{Type: kind, Form: builder.Form{Annotations: map[string]string{}}}
	for k, v := range attrs {
		if strings.HasPrefix(k, "annotation") {
			e.Form.Annotations[k] = v
			delete(attrs, k)
		}
	}
	a := &outputAttributes{kind: kind, left: attrs}
	switch kind {
	case "":
		return nil, errors.New("type is required for output")
	case builder.ExportImage, exportRegistry:
		e.Type = builder.ExportImage
		a.image(e)
		a.push(e)
	case builder.ExportOCI, builder.ExportDocker:
		a.image(e)
		if a.flag("tar", true) {
			break
		}
		e.Dir = a.text("dest")
		if e.Dir == "" || e.Dir == "-" {
			return nil, fmt.Errorf("dest is required for output type %s with tar=false: a folder", kind)
		}
		return e, a.finish(app)
	case builder.ExportTar, builder.ExportLocal:
		if _, ok := attrs["platform-split"]; ok {
			split := a.flag("platform-split", false)
			e.Split = &split
		}
		e.StatementPrefix, e.Form.Epoch = a.text("attestation-prefix"), a.text("source-date-epoch")
		if kind == builder.ExportLocal {
			e.Remove = a.mode()
		}
	case builder.ExportNone:
		e.Absent = true
		return e, a.finish(app)
	default:
		return nil, fmt.Errorf("unknown output type %q: use image, registry, oci, docker, tar, local or cacheonly", kind)
	}
	if e.Type == builder.ExportImage {
		return e, a.finish(app)
	}
	return e, errors.Join(a.dest(app, e), a.finish(app))
}

// exporterAttributes are those of any of BuildKit's exporters, of now and of former versions ("buildinfo", "insecure"), and
// of buildx's ("context", "load"). An exporter passes over those of others.
var exporterAttributes = []string{
	"attestation-inline", "attestation-prefix", "buildinfo", "buildinfo-attrs", "buildinfo-mode", "compression", "compression-level",
	"context", "danging-name-empty-only", "dangling-name-prefix", "dest", "force-compression", "insecure", "load", "mode", "name",
	"name-canonical", "oci-artifact", "oci-mediatypes", "platform-split", "prefer-image-digest", "prefer-nondist-layers", "push",
	"push-by-digest", "registry.insecure", "rewrite-timestamp", "source-date-epoch", "store", "tar", "unpack",
}

// outputAttributes are the attributes of an output. What is asked for is taken out.
type outputAttributes struct {
	kind string
	left map[string]string
	bad  error
}

func (a *outputAttributes) text(name string) string {
	v := a.left[name]
	delete(a.left, name)
	return v
}

func (a *outputAttributes) flag(name string, unset bool) bool {
	v, ok := a.left[name]
	if !ok {
		return unset
	}
	delete(a.left, name)
	if v == "" {
		return true
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		a.bad = fmt.Errorf("output attribute %s: %q is neither true nor false", name, v)
	}
	return b
}

// finish returns what was wrong with the attributes, once those that the type has were asked for. BuildKit passes over
// what it does not know: so does mica, but not in silence, for it may be a slip of the pen.
func (a *outputAttributes) finish(app *App) error {
	if a.bad != nil {
		return a.bad
	}
	for _, name := range slices.Sorted(maps.Keys(a.left)) {
		if !slices.Contains(exporterAttributes, name) {
			fmt.Fprintf(app.Stderr, "WARNING: output type %s has no attribute %q: it is not used\n", a.kind, name)
		}
	}
	return nil
}

// image reads what an image is to look like.
func (a *outputAttributes) image(e *builder.Export) {
	for name := range strings.SplitSeq(a.text("name"), ",") {
		if name != "" {
			e.Names = append(e.Names, name)
		}
	}
	f := &e.Form
	f.DockerTypes = !a.flag("oci-mediatypes", true)
	f.Artifact = a.flag("oci-artifact", false)
	// Attestations are always there where they are asked for, and a layer keeps the type that it came with.
	a.flag("attestation-inline", false)
	a.flag("prefer-nondist-layers", false)
	f.RewriteTimestamp = a.flag("rewrite-timestamp", false)
	f.Epoch = a.text("source-date-epoch")
	f.ForceCompression = a.flag("force-compression", false)
	if v := a.text("compression-level"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			a.bad = fmt.Errorf("output attribute compression-level: %q is no number", v)
		}
		f.Level = n
	}
	switch v := a.text("compression"); v {
	case "":
	case "uncompressed", "none":
		f.Compression = compression.None
	default:
		f.Compression = compression.Algorithm(v)
	}
	if f.Compression != "" {
		if err := compression.CheckLevel(f.Compression, f.Level); err != nil {
			a.bad = err
		}
	}
	if f.DockerTypes && (f.Compression == compression.Zstd || f.Compression == compression.Estargz) {
		a.bad = fmt.Errorf("output attribute compression=%s conflicts with oci-mediatypes=false", f.Compression)
	}
}

// push reads what becomes of an image in the store. Layers that are pushed are compressed on their way.
func (a *outputAttributes) push(e *builder.Export) {
	e.Push = a.flag("push", a.kind == exportRegistry)
	e.Absent = a.kind == exportRegistry
	// Images are unpacked when a process needs their files, and always stored: there is no other place for them.
	a.flag("unpack", false)
	a.flag("store", true)
	e.Canonical, e.Dangling = a.flag("name-canonical", false), a.text("dangling-name-prefix")
	e.DanglingOnly = a.flag("danging-name-empty-only", false) // so BuildKit spells it
	e.Insecure = a.flag("registry.insecure", false)
	if a.flag("push-by-digest", false) {
		e.Push, e.Unnamed = true, true
	}
	f := &e.Form
	if f.Compression == compression.Estargz {
		return // it makes other layers: the image has them before it is pushed
	}
	e.Upload.Compression, e.Upload.Level, e.Upload.Force = f.Compression, f.Level, f.ForceCompression
	if e.Upload.Compression == "" {
		e.Upload.Compression = compression.Gzip
	}
	f.Compression = ""
}

// mode reads whether what the build does not have is removed from a folder.
func (a *outputAttributes) mode() bool {
	switch v := a.text("mode"); v {
	case "", "copy":
	case "delete":
		return true
	default:
		a.bad = fmt.Errorf("output attribute mode: %q is neither copy nor delete", v)
	}
	return false
}

// checkRemovals refuses mode=delete for a folder outside of the current one, and for that itself, unless it is allowed:
// what is there need not be of any build.
func checkRemovals(exports []builder.Export, allow []string) error {
	for _, e := range exports {
		if !e.Remove || slices.Contains(allow, bake.LocalDelete) {
			continue
		}
		dir, err := realPath(".")
		if err != nil {
			return err
		}
		dest, err := realPath(e.Dir)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(dest, strings.TrimSuffix(dir, "/")+"/") {
			return fmt.Errorf("output to %s with mode=delete removes files outside of the current folder: pass --allow %s if it may", e.Dir, bake.LocalDelete)
		}
	}
	return nil
}

// realPath is a path without symlinks, of which not all needs to exist.
func realPath(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, os.ErrNotExist) {
		if real, err = realPath(filepath.Dir(abs)); err == nil {
			real = filepath.Join(real, filepath.Base(abs))
		}
	}
	return real, err
}

// dest reads where files go.
func (a *outputAttributes) dest(app *App, e *builder.Export) error {
	dest := a.text("dest")
	// Better said before a long build than after.
	if info, err := os.Stat(filepath.Dir(dest)); e.Type != builder.ExportLocal && (err != nil || !info.IsDir()) {
		return fmt.Errorf("destination %s: no such folder", filepath.Dir(dest))
	}
	switch {
	case e.Type == builder.ExportLocal && (dest == "" || dest == "-"):
		return errors.New("dest is required for output type local: a folder")
	case e.Type == builder.ExportLocal:
		e.Dir = dest
	case e.Type == builder.ExportDocker && dest == "":
		// Without a file, type=docker loads the image, as `docker build --load` does.
		e.Type = builder.ExportImage
	default:
		e.Create = destination(app, dest)
	}
	return nil
}

// destination opens a file that appears when it is whole, or stdout for "" and "-".
func destination(app *App, dest string) func() (builder.Sink, error) {
	return func() (builder.Sink, error) {
		if dest == "" || dest == "-" {
			if app.Stdout.IsTerminal() {
				return nil, errors.New("dest is required: refusing to write an archive to a terminal")
			}
			return stdoutSink{app.Stdout.File()}, nil
		}
		if real, err := filepath.EvalSymlinks(dest); err == nil {
			dest = real // the file is replaced, not the link to it
		}
		if info, err := os.Stat(dest); err == nil && info.IsDir() {
			return nil, fmt.Errorf("destination %s is a folder", dest)
		} else if err == nil && !info.Mode().IsRegular() {
			return openSpecial(dest)
		}
		f, err := os.CreateTemp(filepath.Dir(dest), "."+filepath.Base(dest)+".tmp-")
		if err != nil {
			return nil, fmt.Errorf("create %s: %w", dest, err)
		}
		mode := 0o666 &^ app.umask
		if info, err := os.Stat(dest); err == nil {
			mode = info.Mode().Perm()
		}
		return &fileSink{f, dest, mode}, nil
	}
}

type stdoutSink struct{ io.Writer }

func (stdoutSink) Commit() error { return nil }
func (stdoutSink) Close() error  { return nil }

// openSpecial opens a device or a pipe, which is written to and never replaced.
func openSpecial(dest string) (builder.Sink, error) {
	f, err := os.OpenFile(dest, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dest, err)
	}
	return specialSink{f}, nil
}

type specialSink struct{ *os.File }

func (specialSink) Commit() error { return nil }

type fileSink struct {
	*os.File
	dest string
	mode os.FileMode
}

// Commit gives the file its name, and the permissions of the one that it replaces or of an ordinary new one.
func (s *fileSink) Commit() error {
	err := errors.Join(s.Chmod(s.mode), s.File.Close())
	if err == nil {
		err = os.Rename(s.Name(), s.dest)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", s.dest, err)
	}
	return nil
}

// Close discards the file unless it was committed.
func (s *fileSink) Close() error {
	_ = s.File.Close()
	if err := os.Remove(s.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
