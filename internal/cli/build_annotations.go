package cli

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/builder"
)

var annotationKind = regexp.MustCompile(`^([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?$`)

// annotate adds --annotation to everything that is an image.
func (f *buildFlags) annotate(exports []builder.Export) error {
	if len(f.annotations) == 0 {
		return nil
	}
	notes := map[string]string{}
	for _, a := range f.annotations {
		if err := parseAnnotation(a, notes); err != nil {
			return err
		}
	}
	images := 0
	for i := range exports {
		switch e := &exports[i]; e.Type {
		case builder.ExportImage, builder.ExportOCI, builder.ExportDocker:
			images++
			if e.Form.Annotations == nil {
				e.Form.Annotations = map[string]string{}
			}
			for k, v := range notes {
				e.Form.Annotations[k] = v
			}
		}
	}
	if images == 0 {
		return errors.New("annotations need an output that is an image: type=image, registry, oci or docker")
	}
	return nil
}

// parseAnnotation reads "[kind[platform],…:]key=value", and adds it as BuildKit's exporters call it.
func parseAnnotation(s string, to map[string]string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("invalid annotation %q, expected key=value", s)
	}
	kinds, key, ok := strings.Cut(name, ":")
	if !ok {
		to[exptypes.AnnotationKey{Key: name}.String()] = value
		return nil
	}
	for kind := range strings.SplitSeq(kinds, ",") {
		m := annotationKind.FindStringSubmatch(kind)
		if m == nil {
			return fmt.Errorf("invalid annotation type %q, expected type and optional platform in square brackets", kind)
		}
		switch m[1] {
		case exptypes.AnnotationIndex, exptypes.AnnotationIndexDescriptor, exptypes.AnnotationManifest, exptypes.AnnotationManifestDescriptor:
		default:
			return fmt.Errorf("unknown annotation type %q", m[1])
		}
		var platform *ocispec.Platform
		if m[2] != "" {
			p, err := platforms.Parse(m[2])
			if err != nil {
				return fmt.Errorf("invalid platform %q: %w", m[2], err)
			}
			platform = &p
		}
		to[exptypes.AnnotationKey{Type: m[1], Platform: platform, Key: key}.String()] = value
	}
	return nil
}
