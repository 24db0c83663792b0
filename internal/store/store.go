// Package store is mica's database, a folder: content-addressed blobs, names, locks, and temporary files.
//
// Objects are immutable and appear by atomic rename; names are small files; flock(2) guards what changes. A process that
// is killed leaves at most something in tmp/, which RemoveStaleTemp removes. docs/store.md describes the format.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

// The content of the store's version file. A store of an unknown format is refused, not guessed at.
const (
	format    = "mica store 2\n"
	oldFormat = "mica store 1\n" // see upgrade
)

var (
	// ErrNotFound says that a blob, layer or name is not in the store.
	ErrNotFound = fmt.Errorf("not found in the store: %w", fs.ErrNotExist)
	// ErrDamaged says that what is stored does not match its identity.
	ErrDamaged = errors.New("damaged")
)

// Store is one store folder. Many processes may use the same folder at once.
type Store struct {
	root string
	old  atomic.Bool // the store has oldFormat

	mu      sync.Mutex // for beginning and ending Use
	session atomic.Pointer[session]
}

// DefaultRoot is $MICA_ROOT, else /var/lib/mica for root, and $XDG_DATA_HOME/mica (~/.local/share/mica) for others.
// root says whether the user is root outside of any user namespace of mica's own making.
func DefaultRoot(root bool) (string, error) {
	if dir := os.Getenv("MICA_ROOT"); dir != "" {
		return filepath.Abs(dir)
	}
	if root {
		return "/var/lib/mica", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mica"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the store: %w; set MICA_ROOT", err)
	}
	return filepath.Join(home, ".local/share/mica"), nil
}

// Open opens the store at root and makes it if it is missing. It reads one small file.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{root: root}
	data, err := os.ReadFile(s.Path("version"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.create()
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	switch string(data) {
	case format:
	case oldFormat:
		s.old.Store(true)
	default:
		return nil, fmt.Errorf("open store %s: it has another format (%q); this mica reads %q",
			root, strings.TrimSpace(string(data)), strings.TrimSpace(format))
	}
	return s, nil
}

// folders are what a new store has.
var folders = []string{"blobs/sha256", "layers", "refs/names", "refs/images", "cache", "mounts", "tmp", "locks"}

// create makes the folders, and the version file last. Several processes may do so at once.
func (s *Store) create() error {
	if err := s.checkVacant(); err != nil {
		return err
	}
	for _, dir := range folders {
		if err := os.MkdirAll(s.Path(dir), 0o700); err != nil {
			return fmt.Errorf("make store: %w", err)
		}
	}
	if err := s.WriteFileAtomic(s.Path("version"), []byte(format)); err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	return nil
}

// filePrefix begins the names in tmp/ of small files that are being written.
const filePrefix = "file-"

// checkVacant refuses a directory that has something else than what an unfinished store has: what is in tmp/ of a store is
// removed, and "/" or a home directory may have one, too. A new filesystem has a lost+found.
func (s *Store) checkVacant() error {
	entries, err := os.ReadDir(s.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	temporary, err := os.ReadDir(s.Path("tmp"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make store: %w", err)
	}
	ours := func(name string) bool {
		return name == "version" || name == "lost+found" || slices.ContainsFunc(folders, func(dir string) bool {
			first, _, _ := strings.Cut(dir, "/")
			return first == name
		})
	}
	for _, e := range entries {
		if !ours(e.Name()) {
			return fmt.Errorf("make store: %s is not a store, and has other files (%s): name another directory", s.root, e.Name())
		}
	}
	for _, e := range temporary {
		if !strings.HasPrefix(e.Name(), filePrefix) {
			return fmt.Errorf("make store: %s is not a store, and has other files (tmp/%s): name another directory", s.root, e.Name())
		}
	}
	return nil
}

// Root is the store's folder.
func (s *Store) Root() string { return s.root }

// Path joins elem to the store's root. layers/, cache/ and mounts/ belong to other packages.
func (s *Store) Path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

// WriteFileAtomic writes data to path, inside the store, so that readers see the old content or the new one, whatever
// happens to this process or to the machine.
func (s *Store) WriteFileAtomic(path string, data []byte) error { return s.writeFile(path, data, true) }

// WriteCacheFile is WriteFileAtomic for what can be done without: after a power cut the content may be damaged.
func (s *Store) WriteCacheFile(path string, data []byte) error { return s.writeFile(path, data, false) }

func (s *Store) writeFile(path string, data []byte, durable bool) error {
	f, err := s.tempFile(filePrefix + "*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return errors.Join(err, f.Close()) // the lock, until the file has its name
}

// validDigest refuses anything but a well-formed sha256, so that a digest is always safe as a file name.
func validDigest(d digest.Digest) error {
	if d.Validate() != nil || d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("invalid digest %q: only sha256 is supported", d)
	}
	return nil
}
