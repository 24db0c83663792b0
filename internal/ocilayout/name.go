package ocilayout

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageNameAnnotation holds the full name of an image in an index, as containerd and Docker write it.
const imageNameAnnotation = "io.containerd.image.name"

// refName is the grammar of the names of images in a layout: that of image-spec, annotations.md, and all tags.
var refName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([A-Za-z0-9]+((--|[-._:@+])[A-Za-z0-9]+)*(/[A-Za-z0-9]+((--|[-._:@+])[A-Za-z0-9]+)*)*|[\w][\w.-]{0,127})$`)
})

// entryName has the names of an image that is written.
type entryName struct {
	ref  string // reference name in the layout, "" for none
	full string // with registry and tag, "" for none
}

// entryName returns the names of an image to write. name is the full name of the image, "" for none.
func (l *Location) entryName(name string) (entryName, error) {
	if l.Kind == DockerArchive && l.Ref != "" {
		name = l.Ref
	}
	n := entryName{}
	if name != "" {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return n, fmt.Errorf("invalid name %q: %w", name, err)
		}
		if _, digested := named.(reference.Digested); digested && l.Kind == DockerArchive && l.Ref != "" {
			return n, fmt.Errorf("invalid name %q: an archive's image is named by a tag, not a digest", name)
		}
		n.full = fullName(name)
	}
	switch {
	case l.Kind != DockerArchive && l.Ref != "":
		n.ref = l.Ref
		if !refName().MatchString(n.ref) {
			return n, fmt.Errorf("invalid name %q: a layout's names are letters and digits, with one of -._:@+/ in between", n.ref)
		}
	case l.Kind != OCI:
		// A directory may have several images with the same tag, an archive has one image.
		n.ref = tagOf(n.full)
	}
	return n, nil
}

// fullName completes a name as Docker does. It returns an invalid name as it is.
func fullName(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.TagNameOnly(named).String()
}

// annotatedName completes the name of an image in an index, if it is a name and not only a tag.
func annotatedName(name string) (string, bool) {
	if !strings.ContainsAny(name, "/:") {
		return "", false
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", false
	}
	if _, digested := named.(reference.Digested); digested {
		return "", false
	}
	return reference.TagNameOnly(named).String(), true
}

func tagOf(name string) string {
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		if t, ok := named.(reference.Tagged); ok {
			return t.Tag()
		}
	}
	return ""
}

// repoTags returns a name as in Docker's manifest.json: short and with a tag.
func repoTags(name string) []string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil
	}
	tag := tagOf(name)
	if tag == "" {
		return nil
	}
	tagged, err := reference.WithTag(reference.TrimNamed(named), tag)
	if err != nil {
		return nil
	}
	return []string{reference.FamiliarString(tagged)}
}

// plain returns a descriptor without the annotations of its index.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform, ArtifactType: d.ArtifactType}
}
