package tarstream

import (
	"fmt"

	"github.com/micabuild/mica/internal/view"
)

// CheckEntry refuses an entry that a layer cannot have.
func CheckEntry(e *view.Entry) error {
	switch {
	case !validPath(e.Path):
		return fmt.Errorf("%q is not a name in a layer", e.Path)
	case marksRemoval(e.Path):
		return fmt.Errorf("%q cannot be kept in a layer: names that begin with .wh. mark removals there", e.Path)
	case e.Type == view.TypeChar && e.Major == 0 && e.Minor == 0:
		return fmt.Errorf("%q cannot be kept in a layer: overlayfs takes a character device 0:0 for a removal", e.Path)
	case e.Path == "." && !e.IsDir():
		return fmt.Errorf("a layer's root must be a directory")
	}
	return nil
}
