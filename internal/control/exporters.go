package control

import (
	"maps"
	"strconv"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/llbsolver/compat"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/history"
)

// exporterMoby is the type of the exporter by which Docker's engine puts an image into its own store.
const exporterMoby = "moby"

// Attributes of outputs: the compression of layers, whether attestations are artifacts, whether media types are OCI's.
const (
	compressionKey = "compression"
	artifactKey    = "oci-artifact"
	mediaTypesKey  = "oci-mediatypes"
)

// compatibility is the version of BuildKit whose exporters a request asks for.
func compatibility(req *controlapi.SolveRequest) (int, error) {
	if req.CompatibilityVersion == 0 {
		return compat.CompatibilityVersionCurrent, nil
	}
	version := int(req.CompatibilityVersion)
	if err := compat.ValidateCompatibilityVersion(version); err != nil {
		return 0, status.Error(codes.InvalidArgument, err.Error())
	}
	return version, nil
}

// exporterDefaults are what the attributes of exporters are by default.
type exporterDefaults struct {
	version int  // of compatibility
	attests bool // the client asks for attestations
}

func defaultsOf(o *builder.Options) *exporterDefaults {
	return &exporterDefaults{version: o.Compatibility, attests: len(o.Attests) > 0}
}

// set sets the attributes of an exporter that are not given (exporter/containerimage/export.go, DefaultOCITypes, DefaultOCIArtifact).
func (d *exporterDefaults) set(kind string, attrs map[string]string) {
	if _, ok := attrs[mediaTypesKey]; !ok && d.version < compat.CompatibilityVersion031 && kind != buildspec.OutputOCI && !d.attests {
		attrs[mediaTypesKey] = "false"
	}
	docker, err := strconv.ParseBool(attrs[mediaTypesKey])
	docker = err == nil && !docker
	if _, ok := attrs[artifactKey]; !ok && d.version >= compat.CompatibilityVersion031 && kind != exporterMoby && !docker {
		attrs[artifactKey] = "true"
	}
}

// exportersOf are those of a request. Clients before BuildKit 0.13 name one in other fields.
func exportersOf(req *controlapi.SolveRequest) []*controlapi.Exporter {
	if len(req.Exporters) == 0 && req.ExporterDeprecated != "" {
		return []*controlapi.Exporter{{Type: req.ExporterDeprecated, Attrs: req.ExporterAttrsDeprecated}}
	}
	return req.Exporters
}

// recorded are exporters as the history has them.
func recorded(exporters []*controlapi.Exporter) []history.Exporter {
	list := []history.Exporter{}
	for _, e := range exporters {
		list = append(list, history.Exporter{Type: e.Type, Attrs: e.Attrs})
	}
	return list
}

// output reads the exporter with a number.
func output(i int, e *controlapi.Exporter, d *exporterDefaults) (*buildspec.Output, error) {
	entry := buildspec.Entry{Type: e.Type, Attrs: maps.Clone(e.Attrs)}
	if entry.Attrs == nil {
		entry.Attrs = map[string]string{}
	}
	switch e.Type {
	case exporterMoby:
		entry.Type = buildspec.OutputImage
		d.set(e.Type, entry.Attrs)
	case buildspec.OutputImage, buildspec.OutputRegistry:
		d.set(e.Type, entry.Attrs)
	case buildspec.OutputOCI, buildspec.OutputDocker:
		if entry.Attrs[compressionKey] == "" {
			entry.Attrs[compressionKey] = "gzip" // as in BuildKit; without it, mica's own archives have plain layers
		}
		d.set(e.Type, entry.Attrs)
		fallthrough
	default: // where the client writes it is the client's business
		entry.Attrs["dest"] = outputPrefix + strconv.Itoa(i)
	}
	o, err := buildspec.NewOutput(entry)
	if err == nil && o.IsImage() && d.version == compat.CompatibilityVersion013 && entry.Attrs[compressionKey] == "zstd" {
		return nil, errdefs.NewUnsupportedCompatibilityFeatureError(d.version, e.Type+" exporter compression=zstd")
	}
	return o, err
}
