// Package view holds read-only filesystems, and the copy semantics that turn views into changes.
package view

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// Type is a file's type.
type Type uint8

// The types of files.
const (
	TypeRegular Type = iota + 1
	TypeDir
	TypeSymlink
	TypeChar
	TypeBlock
	TypeFifo
	TypeSocket   // seen on a host only: never in a layer
	TypeWhiteout // in a layer only: the name is removed
)

// Entry is one file's metadata. Entries are shared: never change one that a View returned, Clone it.
type Entry struct {
	// Path is relative to the root, slash-separated, clean, any bytes; "." is the root itself.
	Path     string
	Type     Type
	Opaque   bool   // in a layer only, directories: nothing of lower layers shows through
	Mode     uint32 // permission bits with setuid, setgid and sticky: 07777
	UID, GID int
	Size     int64 // regular files: bytes; otherwise 0
	ModTime  time.Time
	Linkname string // symlinks: the target as it stands
	// Hardlink is, for the second and later names of one file, the path of its first name in the same view (or layer).
	// Type, Mode, Size, Digest … are filled as for the first name.
	Hardlink string
	Major    int64 // devices
	Minor    int64
	Xattrs   map[string]string // without overlay's own (trusted.overlay.*, user.overlay.*)
	// Digest is the sha256 of a regular file's content where it is already known; "" otherwise: ask View.Digest.
	Digest digest.Digest
}

// IsDir reports whether e is a directory.
func (e *Entry) IsDir() bool { return e.Type == TypeDir }

// Clone returns a copy that may be changed; the map of xattrs is shared and must be replaced, not written to.
func (e *Entry) Clone() *Entry {
	c := *e
	return &c
}

// View is a read-only filesystem. Names are as in Entry.Path; "." is the root. No method follows a symlink, in no
// component (Resolve does, inside the root). Missing names give an error that Is fs.ErrNotExist. Safe for concurrent use.
type View interface {
	Lstat(ctx context.Context, name string) (*Entry, error)
	// ReadDir returns a directory's entries (full paths) sorted bytewise by name.
	ReadDir(ctx context.Context, name string) ([]*Entry, error)
	// Open opens a regular file.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// Digest returns the sha256 of a regular file's content, from a cache where one has it.
	Digest(ctx context.Context, name string) (digest.Digest, error)
}

// Known is a View that knows the content of files by their state, which Open sees to: a file that it opens has the
// digest that it knows, or reading it fails.
type Known interface {
	// KnownDigest returns a regular file's digest if it is known without reading the file.
	KnownDigest(ctx context.Context, name string) (digest.Digest, bool)
}

// Change is one difference that a layer records. Changes are sorted by Path (parents first).
type Change struct {
	Entry *Entry // Type whiteout for a removal
	// Source and SourcePath say where a regular file's content is read (not for hardlinks).
	Source     View
	SourcePath string
}
