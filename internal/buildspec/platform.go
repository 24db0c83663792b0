package buildspec

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ParsePlatforms reads --platform. One text may hold several platforms with commas between them.
func ParsePlatforms(list []string) ([]ocispec.Platform, error) {
	var all []ocispec.Platform
	for _, s := range list {
		for name := range strings.SplitSeq(s, ",") {
			p, err := parsePlatform(name)
			if err != nil {
				return nil, fmt.Errorf("invalid platform %q: %w", name, err)
			}
			all = append(all, p)
		}
	}
	return all, nil
}

// parsePlatform reads a platform; "local" is this machine's, as for buildx.
func parsePlatform(name string) (ocispec.Platform, error) {
	switch strings.ToLower(name) {
	case "local":
		return platforms.DefaultSpec(), nil
	case "":
		return ocispec.Platform{}, errors.New("it has no name")
	}
	return platforms.Parse(name)
}
