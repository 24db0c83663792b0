package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	commonexptypes "github.com/moby/buildkit/exporter/exptypes"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/solver/result"
	"github.com/moby/buildkit/util/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/attest"
	"github.com/micabuild/mica/internal/catalog"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/solver"
)

// response is what the compiler has built.
type response struct {
	platforms []*built
	meta      map[string][]byte // of the front end
	several   bool              // the front end asks for an index
	// keys identify the platforms' results in remote caches; inline, if set, is the cache that the image carries.
	keys   []remotecache.Key
	inline *remotecache.Cache
	// elsewhere are the layers that are pushed without being fetched; nil if all are in the store.
	elsewhere elsewhere
	// attester makes the attestations.
	attester *attester
}

// built is the image of one platform: a filesystem and its config.
type built struct {
	id           string // the front end's name of the platform
	platform     ocispec.Platform
	result       *solver.Result
	config       []byte
	base         *ocispec.Image // the base image, nil for scratch
	def          *pb.Definition
	by           *request                               // nil for the empty filesystem
	bundles      []result.Attestation[client.Reference] // the results of scanners
	attestations []*attest.Attestation
	catalog      *catalog.Catalog // the packages, for an SBOM of mica's own
	epoch        *time.Time       // SOURCE_DATE_EPOCH
}

// fetch fetches the layers of the result that are not in the store. The result is another one afterwards if remote caches have lost some.
func (b *built) fetch(ctx context.Context, s *solver.Solver) error {
	whole, err := s.Whole(ctx, b.def, b.result)
	if err == nil {
		b.result = whole
	}
	return err
}

// directory is the name of the platform's directory.
func (b *built) directory() string { return strings.ReplaceAll(b.id, "/", "_") }

func newResponse(res *client.Result) (*response, error) {
	list, err := exptypes.ParsePlatforms(res.Metadata)
	if err != nil {
		return nil, err
	}
	out := &response{several: len(res.Refs) > 0, meta: res.Metadata}
	for _, p := range list.Platforms {
		ref, ok := res.FindRef(p.ID)
		if !ok {
			return nil, fmt.Errorf("the build has no result for %s", p.ID)
		}
		b := &built{id: p.ID, platform: p.Platform, result: &solver.Result{}}
		if r, ok := ref.(*resultRef); ok && r != nil {
			b.result, b.def, b.by = r.result, r.def, r.by
		}
		b.bundles = res.Attestations[p.ID]
		if err := b.read(res.Metadata); err != nil {
			return nil, err
		}
		out.platforms = append(out.platforms, b)
	}
	if len(out.platforms) == 0 {
		return nil, fmt.Errorf("the build has no result")
	}
	return out, nil
}

// read reads the metadata of the compiler.
func (b *built) read(meta map[string][]byte) error {
	p := &exptypes.Platform{ID: b.id, Platform: b.platform}
	b.config = exptypes.ParseKey(meta, exptypes.ExporterImageConfigKey, p)
	if len(b.config) == 0 {
		var err error
		if b.config, err = plainConfig(p.Platform); err != nil {
			return err
		}
	}
	if raw := exptypes.ParseKey(meta, exptypes.ExporterImageBaseConfigKey, p); len(raw) > 0 {
		b.base = &ocispec.Image{}
		if err := json.Unmarshal(raw, b.base); err != nil {
			return fmt.Errorf("config of the base image: %w", err)
		}
	}
	if raw := exptypes.ParseKey(meta, commonexptypes.ExporterEpochKey, p); len(raw) > 0 {
		var err error
		if b.epoch, err = parseEpoch(string(raw)); err != nil {
			return err
		}
	}
	return nil
}

// plainConfig is the config of a result that has none: that of LLB without a front end (exporter/containerimage/writer.go,
// defaultImageConfig).
func plainConfig(p ocispec.Platform) ([]byte, error) {
	img := ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers"}}
	img.Config.WorkingDir = "/"
	if p.OS != "windows" {
		img.Config.Env = []string{"PATH=" + system.DefaultPathEnv(p.OS)}
	}
	return json.Marshal(img)
}
