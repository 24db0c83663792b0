package image

import (
	"errors"
	"fmt"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// errAmbiguous is Docker's error of a name that reads like an ID.
var errAmbiguous = errors.New("refusing to create an ambiguous tag using digest algorithm as name")

// ParseName parses a name for an image. The repository must not have the name of the digest algorithm: with a tag it would
// read like an ID. The grammar of references excludes names of 64 hexadecimal digits.
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

// fullName returns the name as the store has it: "docker.io/library/nginx:latest" for nginx.
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
