package buildspec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"github.com/micabuild/mica/internal/compression"
)

// The types of outputs, as --output names them.
const (
	OutputImage    = "image"     // an image in the store
	OutputRegistry = "registry"  // an image that is pushed: OutputImage with Push
	OutputOCI      = "oci"       // an OCI layout, in a tar or as a directory
	OutputDocker   = "docker"    // a Docker archive; without a destination OutputImage
	OutputTar      = "tar"       // the root filesystem as a tar
	OutputLocal    = "local"     // the root filesystem as a directory
	OutputNone     = "cacheonly" // nothing: the steps are in the cache
)

// Output is one result of a build.
type Output struct {
	Type string // any but OutputRegistry
	// Names are further names for the image, for image, oci and docker. "*" alone is the names that the front end gives.
	Names []string
	// Dest is a file, a directory if Directory is set, and "-" or "" for stdout.
	Dest string
	// Directory is set for local, and for oci with tar=false.
	Directory bool
	// Split puts each platform into a directory of its own, for local and tar; nil splits several platforms.
	Split *bool
	// Delete removes files that the build does not have from the directory, for local.
	Delete bool
	// Push sends an image to the registries of its names.
	Push bool
	// Lazy leaves layers at their registries that only a push needs, or nothing: the store does not get the image then. It is
	// for image with Push, and for cacheonly.
	Lazy bool
	// Unnamed leaves the names of the store as they are, and pushes by digest.
	Unnamed bool
	// Upload is how layers are compressed while they are pushed. Insecure allows a registry without TLS.
	Upload   Upload
	Insecure bool
	// Canonical also names the image by its digest. Dangling is a repository in which it gets such a name, too; with
	// DanglingOnly only if it has no other.
	Canonical    bool
	Dangling     string
	DanglingOnly bool
	// StatementPrefix begins the names of the files with attestations, for local and tar.
	StatementPrefix string
	Form            Form
	// Meta is metadata in place of that of the front end, by its keys (exporter/containerimage/exptypes): the config of an image, the platforms
	// of the results.
	Meta map[string]string
	// Unused describes attributes that no exporter has: probably misspelled.
	Unused []string
}

// Upload is how layers are compressed while they are pushed. The zero value compresses those with gzip that are not
// compressed.
type Upload struct {
	Compression compression.Algorithm
	Level       int
	Force       bool // of layers that are compressed otherwise, too
}

// Form is what an image looks like: the attributes of BuildKit's image exporter (docs/exporters).
type Form struct {
	// Annotations by BuildKit's keys: "annotation-index.org.example=…" is "annotation-index.org.example".
	Annotations map[string]string
	// DockerTypes gives the image Docker's media types.
	DockerTypes bool
	// Compression of the layers, with a level (0 is the default); "" leaves them as they are in the store.
	Compression      compression.Algorithm
	Level            int
	ForceCompression bool // of layers that are compressed otherwise, too
	// Epoch limits the times of an image, and is the time of all files of local and tar, in seconds since 1970; "" is no limit, and nil
	// is SOURCE_DATE_EPOCH of the build.
	Epoch *string
	// Artifact writes attestations as artifacts whose subject is the image (image-spec, manifest.md, "subject").
	Artifact bool
	// RewriteTimestamp also limits the times of the files in layers that were built.
	RewriteTimestamp bool
}

// IsImage reports whether the output is an image, not files alone.
func (o *Output) IsImage() bool {
	switch o.Type {
	case OutputImage, OutputOCI, OutputDocker:
		return true
	}
	return false
}

// Stdout reports whether the output is written to stdout.
func (o *Output) Stdout() bool {
	switch o.Type {
	case OutputOCI, OutputDocker, OutputTar:
		return !o.Directory && (o.Dest == "" || o.Dest == "-")
	}
	return false
}

// ParseOutputs reads all --output. Empty texts are left out, as buildx does.
func ParseOutputs(list []string) ([]Output, error) {
	var all []Output
	for _, s := range list {
		if s == "" {
			continue
		}
		e, err := ParseOutput(s)
		if err != nil {
			return nil, err
		}
		o, err := NewOutput(e)
		if err != nil {
			return nil, err
		}
		all = append(all, *o)
	}
	return all, nil
}

// ParseOutput reads "type=oci,dest=FILE", a path alone for type=local, or "-" for type=tar to stdout.
func ParseOutput(text string) (Entry, error) {
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return Entry{}, fmt.Errorf("invalid output %q: %w", text, err)
	}
	// buildx takes any text for a path that is one field and does not begin with a type.
	if len(fields) == 1 && (fields[0] == text && !strings.HasPrefix(text, "type=") || !strings.Contains(fields[0], "=")) {
		kind := OutputLocal
		if fields[0] == "-" {
			kind = OutputTar
		}
		e := Entry{kind, map[string]string{"dest": fields[0]}}
		return e, FinishOutput(&e)
	}
	e, err := ParseEntry(text, trimLower)
	if err == nil {
		err = FinishOutput(&e)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("invalid output %q: %w", text, err)
	}
	return e, nil
}

// FinishOutput checks the entry of an output and drops an empty destination.
func FinishOutput(e *Entry) error {
	if e.Type == "" {
		return errors.New("type is required for output")
	}
	if e.Attrs["dest"] == "" {
		delete(e.Attrs, "dest")
	}
	return nil
}

// NewOutput reads the attributes of an output, as BuildKit has them (docs/exporters). Attributes that begin with
// "annotation" are annotations of the image.
func NewOutput(e Entry) (*Output, error) {
	a := &attributes{kind: e.Type, left: maps.Clone(e.Attrs)}
	if a.left == nil {
		a.left = map[string]string{}
	}
	o := &Output{Type: e.Type, Form: Form{Annotations: map[string]string{}}}
	for k, v := range e.Attrs {
		switch {
		case strings.HasPrefix(k, "annotation"):
			o.Form.Annotations[k] = v
		case strings.HasPrefix(k, "containerimage."), k == "refs.platforms":
			if o.Meta == nil {
				o.Meta = map[string]string{}
			}
			o.Meta[k] = v
		default:
			continue
		}
		delete(a.left, k)
	}
	switch e.Type {
	case "":
		return nil, errors.New("type is required for output")
	case OutputImage, OutputRegistry:
		o.Type = OutputImage
		a.image(o)
		a.push(o)
	case OutputOCI, OutputDocker:
		a.image(o)
		o.Directory = !a.flag("tar", true)
		a.dest(o)
	case OutputTar, OutputLocal:
		a.files(o)
		a.dest(o)
	case OutputNone:
		o.Lazy = true
	default:
		return nil, fmt.Errorf("unknown output type %q: use image, registry, oci, docker, tar, local or cacheonly", e.Type)
	}
	o.Unused = a.unknown()
	return o, errors.Join(a.errs...)
}

// attributes are those of an output. Reading one removes it.
type attributes struct {
	kind string
	left map[string]string
	errs []error
}

func (a *attributes) text(name string) string {
	v := a.left[name]
	delete(a.left, name)
	return v
}

// optional is text for an attribute whose absence is not the same as "": nil.
func (a *attributes) optional(name string) *string {
	if _, ok := a.left[name]; !ok {
		return nil
	}
	v := a.text(name)
	return &v
}

func (a *attributes) flag(name string, unset bool) bool {
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
		a.fail("output attribute %s: %q is neither true nor false", name, v)
	}
	return b
}

// fail keeps the first error: one line is enough.
func (a *attributes) fail(format string, args ...any) {
	if len(a.errs) == 0 {
		a.errs = append(a.errs, fmt.Errorf(format, args...))
	}
}

// known are the attributes of all of BuildKit's exporters, of now and of former versions ("buildinfo", "insecure"), and of
// buildx ("context", "load"). An exporter ignores those of others.
var known = []string{
	"attestation-inline", "attestation-prefix", "buildinfo", "buildinfo-attrs", "buildinfo-mode", "compression", "compression-level",
	"context", "danging-name-empty-only", "dangling-name-prefix", "dest", "force-compression", "insecure", "load", "mode", "name",
	"name-canonical", "oci-artifact", "oci-mediatypes", "platform-split", "prefer-image-digest", "prefer-nondist-layers", "push",
	"push-by-digest", "registry.insecure", "rewrite-timestamp", "source-date-epoch", "store", "tar", "unpack",
}

// unknown describes the attributes that were not read and that no exporter has. BuildKit ignores them in silence, but they may
// be misspelled.
func (a *attributes) unknown() []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(a.left)) {
		if !slices.Contains(known, name) {
			list = append(list, fmt.Sprintf("output type %s has no attribute %q", a.kind, name))
		}
	}
	return list
}

// image reads the form of an image.
func (a *attributes) image(o *Output) {
	for name := range strings.SplitSeq(a.text("name"), ",") {
		if name != "" {
			o.Names = append(o.Names, name)
		}
	}
	f := &o.Form
	f.DockerTypes = !a.flag("oci-mediatypes", true)
	f.Artifact = a.flag("oci-artifact", false)
	// Attestations are always written if they are asked for, and a layer keeps the type that it came with.
	a.flag("attestation-inline", false)
	a.flag("prefer-nondist-layers", false)
	f.RewriteTimestamp = a.flag("rewrite-timestamp", false)
	f.Epoch = a.optional("source-date-epoch")
	a.compression(f)
}

func (a *attributes) compression(f *Form) {
	f.ForceCompression = a.flag("force-compression", false)
	if v := a.text("compression-level"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			a.fail("output attribute compression-level: %q is not a number", v)
		}
		f.Level = n
	}
	f.Compression = compressionNamed(a.text("compression"))
	if f.Compression != "" {
		if err := compression.CheckLevel(f.Compression, f.Level); err != nil {
			a.fail("%w", err)
		}
	}
	if f.DockerTypes && f.Compression == compression.Estargz {
		a.fail("output attribute compression=%s conflicts with oci-mediatypes=false", f.Compression)
	}
}

// compressionNamed returns the algorithm of an attribute, "" for none.
func compressionNamed(name string) compression.Algorithm {
	if name == "uncompressed" {
		return compression.None
	}
	return compression.Algorithm(name)
}

// push reads whether an image is stored, named and pushed.
func (a *attributes) push(o *Output) {
	o.Push = a.flag("push", a.kind == OutputRegistry)
	o.Lazy = a.kind == OutputRegistry
	// Images are unpacked when a process needs their files, and always stored: mica has no other place for them.
	a.flag("unpack", false)
	a.flag("store", true)
	o.Canonical, o.Dangling = a.flag("name-canonical", false), a.text("dangling-name-prefix")
	o.DanglingOnly = a.flag("danging-name-empty-only", false) // BuildKit's spelling
	o.Insecure = a.flag("registry.insecure", false)
	if a.flag("push-by-digest", false) {
		o.Push, o.Unnamed = true, true
	}
	f := &o.Form
	if f.Compression == compression.Estargz || f.Compression == compression.Zstd && f.DockerTypes {
		// Estargz makes other layers, and a push gives Docker's type of zstd only to layers that have it: the image has them before.
		return
	}
	o.Upload = Upload{f.Compression, f.Level, f.ForceCompression}
	if o.Upload.Compression == "" {
		o.Upload.Compression = compression.Gzip
	}
	f.Compression = ""
}

// files reads the attributes of outputs that are files.
func (a *attributes) files(o *Output) {
	if _, ok := a.left["platform-split"]; ok {
		split := a.flag("platform-split", false)
		o.Split = &split
	}
	o.StatementPrefix, o.Form.Epoch = a.text("attestation-prefix"), a.optional("source-date-epoch")
	if a.kind != OutputLocal {
		return
	}
	o.Directory = true
	switch v := a.text("mode"); v {
	case "", "copy":
	case "delete":
		o.Delete = true
	default:
		a.fail("output attribute mode: %q is neither copy nor delete", v)
	}
}

// dest reads where files are written.
func (a *attributes) dest(o *Output) {
	o.Dest = a.text("dest")
	switch {
	case o.Directory && (o.Dest == "" || o.Dest == "-") && a.kind == OutputLocal:
		a.fail("dest is required for output type local: a directory")
	case o.Directory && (o.Dest == "" || o.Dest == "-"):
		a.fail("dest is required for output type %s with tar=false: a directory", a.kind)
	case o.Type == OutputDocker && !o.Directory && o.Dest == "":
		// Without a file, type=docker loads the image, as `docker build --load` does.
		o.Type = OutputImage
	}
}
