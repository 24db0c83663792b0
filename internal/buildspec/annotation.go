package buildspec

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ParseAnnotations reads --annotation, "[type[platform],…:]key=value", into BuildKit's keys.
func ParseAnnotations(list []string) (map[string]string, error) {
	all := map[string]string{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("invalid annotation %q, expected key=value", s)
		}
		types, key, ok := strings.Cut(name, ":")
		if !ok {
			all[exptypes.AnnotationKey{Key: name}.String()] = value
			continue
		}
		for t := range strings.SplitSeq(types, ",") {
			k, err := annotationKey(t)
			if err != nil {
				return nil, err
			}
			k.Key = key
			all[k.String()] = value
		}
	}
	return all, nil
}

// annotationType is "manifest[linux/amd64]".
var annotationType = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?$`)
})

// annotationKey reads "manifest[linux/amd64]".
func annotationKey(text string) (exptypes.AnnotationKey, error) {
	var none exptypes.AnnotationKey
	m := annotationType().FindStringSubmatch(text)
	if m == nil {
		return none, fmt.Errorf("invalid annotation type %q, expected type and optional platform in square brackets", text)
	}
	switch m[1] {
	case exptypes.AnnotationIndex, exptypes.AnnotationIndexDescriptor, exptypes.AnnotationManifest, exptypes.AnnotationManifestDescriptor:
	default:
		return none, fmt.Errorf("unknown annotation type %q", m[1])
	}
	var platform *ocispec.Platform
	if m[2] != "" {
		p, err := platforms.Parse(m[2])
		if err != nil {
			return none, fmt.Errorf("invalid platform %q: %w", m[2], err)
		}
		platform = &p
	}
	return exptypes.AnnotationKey{Type: m[1], Platform: platform}, nil
}
