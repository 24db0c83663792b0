package dockerfile

import (
	"fmt"
	"path"

	"github.com/distribution/reference"
)

// SyntaxError says that a Dockerfile, or the build argument BUILDKIT_SYNTAX, names a front end that mica does not have.
type SyntaxError struct{ Name string }

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("syntax %s is not supported: only docker/dockerfile is built in, under the name of any registry", e.Name)
}

// KnownFrontend reports whether the image of a `# syntax=` line is Docker's Dockerfile compiler, which is the one that is
// built in. It checks only the end of the name: mirrors and proxies have other hosts, and further path elements.
func KnownFrontend(ref string) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false
	}
	dir, name := path.Split(reference.Path(named))
	return path.Base(dir) == "docker" && (name == "dockerfile" || name == "dockerfile-upstream")
}
