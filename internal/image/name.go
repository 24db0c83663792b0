package image

import (
	"errors"
	"fmt"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// errAmbiguous is what Docker says of a name that reads like an ID.
var errAmbiguous = errors.New("refusing to create an ambiguous tag using digest algorithm as name")

// ParseName reads a name that an image is to be given. A repository may not be called as the algorithm of digests is: with a
// tag its name would read like an ID. What looks like an ID of 64 digits is not a name for the grammar of references, either.
func ParseName(name string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, err
	}
	if reference.FamiliarName(named) == digest.Canonical.String() {
		return nil, errAmbiguous
	}
	return named, nil
}

// fullName is the name that a tag is kept under: "docker.io/library/nginx:latest" for nginx.
func fullName(name string) (string, error) {
	named, err := ParseName(name)
	if errors.Is(err, errAmbiguous) {
		return "", err
	}
	if err != nil {
		return "", &InvalidReferenceError{name, err}
	}
	if _, ok := named.(reference.Digested); ok {
		return "", fmt.Errorf("refusing to create a tag with a digest reference")
	}
	return reference.TagNameOnly(named).String(), nil
}
