package command

import (
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
)

// RemoteName is a name as Docker resolves it.
func RemoteName(ref string) (reference.Named, error) {
	name, err := image.ParseName(strings.TrimPrefix(ref, "docker://"))
	if err != nil {
		return nil, fmt.Errorf("invalid reference format: %q: %w", ref, err)
	}
	return name, nil
}

// TagOrDigest is the last part of a name, "" if it has neither.
func TagOrDigest(name reference.Named) string {
	if d, ok := name.(reference.Digested); ok {
		return d.Digest().String()
	}
	if t, ok := name.(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

// ParsePlatforms reads --platform: several, or "all".
func ParsePlatforms(list []string) (parsed []ocispec.Platform, all bool, err error) {
	for _, s := range list {
		if s == "all" {
			return nil, true, nil
		}
		p, err := platforms.Parse(s)
		if err != nil {
			return nil, false, fmt.Errorf("invalid platform %q: %w", s, err)
		}
		parsed = append(parsed, platforms.Normalize(p))
	}
	return parsed, false, nil
}

// ParsePlatform reads --platform of a command that takes one; nil for "", which is this host's.
func ParsePlatform(text string) (*ocispec.Platform, error) {
	if text == "" {
		return nil, nil
	}
	list, all, err := ParsePlatforms([]string{text})
	if err == nil && all {
		err = fmt.Errorf("invalid platform %q: name one", text)
	}
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}
