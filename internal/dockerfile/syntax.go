package dockerfile

import (
	"path"

	"github.com/distribution/reference"
)

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
