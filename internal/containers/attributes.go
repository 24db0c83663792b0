package containers

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// attributePrefix begins the keys of extended attributes in the PAX records of a tar.
const attributePrefix = "SCHILY.xattr."

// capability is the attribute of the capabilities that a program has: the only one that docker cp and docker export read.
const capability = "security.capability"

// The layout of a capability (linux/capability.h): revision 3 is revision 2 followed by a user ID.
const (
	revisionAt           = 3
	revision2, revision3 = 2, 3
	sizeOfRevision2      = 20
	sizeOfRevision3      = 24
)

// addCapability adds the capabilities of a regular file to its header. As in Docker, they are those for root of any user namespace: the user ID
// of revision 3 is one of this host.
func addCapability(h *tar.Header, f *os.File) error {
	value := make([]byte, sizeOfRevision3)
	n, err := unix.Fgetxattr(int(f.Fd()), capability, value)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "read capabilities", Path: h.Name, Err: err}
	}
	value = value[:n]
	if n == sizeOfRevision3 && value[revisionAt] == revision3 {
		value[revisionAt] = revision2
		value = value[:sizeOfRevision2]
	}
	h.PAXRecords = with(h.PAXRecords, attributePrefix+capability, string(value))
	return nil
}

// setAttributes sets the capabilities of a regular file and the attributes of users. Others are of this host and its security modules. What the
// filesystem does not have or the user may not set is left out.
func setAttributes(h *tar.Header, f *os.File) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, attributePrefix)
		if !ok || name != capability && !strings.HasPrefix(name, "user.") {
			continue
		}
		err := unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return &fs.PathError{Op: "set attribute " + name, Path: h.Name, Err: err}
		}
	}
	return nil
}
