package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/solver/ops"
	"github.com/micabuild/mica/internal/view"
)

// Client is the client of a build elsewhere. The outputs have numbers as their destinations, and the layouts and local caches IDs.
type Client interface {
	// Sync returns a view of a directory of the client.
	Sync(ctx context.Context, src ops.Remote, opt view.DirOptions) (view.View, error)
	// File opens the file of an output, of made if that is an image. Its errors are ErrExists for a client that does not want it.
	File(ctx context.Context, output string, made *Exported) (Sink, error)
	// Write writes files into the directory of an output.
	Write(ctx context.Context, output string, v view.View) error
	// Store is a content store of the client, or of another one by its session; "" for the session of the build.
	Store(ctx context.Context, session, id string) (content.Storage, error)
}

// ErrExists is the error of a client that has the file of an output already.
var ErrExists = errors.New("the client has it already")

// ClientContext is the context of a build whose files a Client has.
type ClientContext struct{}

func (ClientContext) check() error { return nil }

func (ClientContext) options() map[string]string { return map[string]string{} }

func (ClientContext) locals() map[string]ops.Local { return map[string]ops.Local{} }

func (ClientContext) inputs() map[string]llb.State { return map[string]llb.State{} }

// sync returns what gives local sources that are not of this host, nil for nothing.
func (o *Options) sync() ops.Sync {
	if o.Client == nil {
		return nil
	}
	return o.Client.Sync
}

// maxRoot bounds the manifest or index of a layout, in bytes.
const maxRoot = 4 << 20

// readRoot returns the descriptor of a manifest or index in a client's store, which has no index.json.
func readRoot(ctx context.Context, src content.Fetcher, d digest.Digest) (root ocispec.Descriptor, err error) {
	root.Digest = d
	if err := d.Validate(); err != nil {
		return root, err
	}
	r, err := src.Fetch(ctx, root)
	if err != nil {
		return root, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(r, maxRoot+1))
	if err != nil {
		return root, err
	}
	var m struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
	}
	switch {
	case len(raw) > maxRoot:
		return root, fmt.Errorf("manifest %s is larger than %d bytes", d, maxRoot)
	case d.Algorithm().FromBytes(raw) != d:
		return root, fmt.Errorf("manifest %s has other content", d)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return root, fmt.Errorf("manifest %s: %w", d, err)
	}
	root.MediaType, root.Size = m.MediaType, int64(len(raw))
	switch {
	case m.MediaType != "":
	case m.Manifests != nil:
		root.MediaType = ocispec.MediaTypeImageIndex
	default:
		root.MediaType = ocispec.MediaTypeImageManifest
	}
	return root, nil
}

// exportStore is the ID of the client's store that gets an image as an OCI layout.
const exportStore = "export"

// layoutWriter writes an OCI layout into a store of the client, which adds the list of its images.
type layoutWriter struct {
	ctx context.Context
	to  content.Pusher
}

// Add writes a file of the layout: only blobs have a place in a store.
func (w *layoutWriter) Add(name string, size int64, r io.Reader) error {
	hex, ok := strings.CutPrefix(name, "blobs/sha256/")
	if !ok {
		return nil
	}
	return w.to.Push(w.ctx, ocispec.Descriptor{
		MediaType: "application/octet-stream", Digest: digest.NewDigestFromEncoded(digest.SHA256, hex), Size: size,
	}, r)
}

// states are the inputs of the compiler.
func (o *Options) states() (map[string]llb.State, error) {
	states := o.Context.inputs()
	if len(o.Inputs) > 0 && states == nil {
		states = map[string]llb.State{}
	}
	for name, def := range o.Inputs {
		st, err := stateOf(name, def)
		if err != nil {
			return nil, err
		}
		states[name] = st
	}
	return states, nil
}
