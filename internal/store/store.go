// Package store is mica's database, a directory: content-addressed blobs, names, locks, and temporary files.
//
// Objects are immutable and appear by atomic rename. Names are small files. File locks guard what changes. A process that
// is killed leaves files in tmp/ only, which RemoveStaleTemp removes. docs/store.md describes the format.
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
	// ErrNotFound means that a blob, layer or name is not in the store.
	ErrNotFound = fmt.Errorf("not found in the store: %w", fs.ErrNotExist)
	// ErrDamaged means that stored content does not match its identity.
	ErrDamaged = errors.New("damaged")
)

// Store is one store. Many processes may use the same directory at once.
type Store struct {
	root string
	old  atomic.Bool // the store has oldFormat

	mu      sync.Mutex // guards the start and the end of session
	session atomic.Pointer[session]
}

// DefaultRoot is $MICA_ROOT, else /var/lib/mica for root, and $XDG_DATA_HOME/mica (~/.local/share/mica) for others.
// root reports whether the user is root outside of the user namespaces that mica makes.
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
		return "", fmt.Errorf("find a directory for the store: %w; set MICA_ROOT", err)
	}
	return filepath.Join(home, ".local/share/mica"), nil
}

// Open opens the store at root, and creates it if it is missing. It reads one small file.
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
		return nil, fmt.Errorf("open store %s: it has another format (%q); this version of mica reads %q",
			root, strings.TrimSpace(string(data)), strings.TrimSpace(format))
	}
	return s, nil
}

// directories are those of a new store.
var directories = []string{"blobs/sha256", "layers", "refs/names", "refs/images", "cache", "mounts", "tmp", "locks"}

// create makes the directories, and the version file last. Several processes may do so at once.
func (s *Store) create() error {
	if err := s.checkVacant(); err != nil {
		return err
	}
	for _, dir := range directories {
		if err := os.MkdirAll(s.Path(dir), 0o700); err != nil {
			return fmt.Errorf("create store: %w", err)
		}
	}
	if err := s.WriteFileAtomic(s.Path("version"), []byte(format)); err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	return nil
}

// filePrefix is the prefix of the names, in tmp/, of small files that are being written.
const filePrefix = "file-"

// checkVacant refuses a directory that has other files than an unfinished store has. Files in the tmp/ of a store are removed,
// and "/" or a home directory may have a tmp/, too. A new filesystem has a lost+found.
func (s *Store) checkVacant() error {
	entries, err := os.ReadDir(s.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	temporary, err := os.ReadDir(s.Path("tmp"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("create store: %w", err)
	}
	ours := func(name string) bool {
		return name == "version" || name == "lost+found" || slices.ContainsFunc(directories, func(dir string) bool {
			first, _, _ := strings.Cut(dir, "/")
			return first == name
		})
	}
	for _, e := range entries {
		if !ours(e.Name()) {
			return fmt.Errorf("create store: %s is not a store, and has other files (%s): name another directory", s.root, e.Name())
		}
	}
	for _, e := range temporary {
		if !strings.HasPrefix(e.Name(), filePrefix) {
			return fmt.Errorf("create store: %s is not a store, and has other files (tmp/%s): name another directory", s.root, e.Name())
		}
	}
	return nil
}

// Root is the store's directory.
func (s *Store) Root() string { return s.root }

// Path joins elem to the store's root. layers/, cache/ and mounts/ belong to other packages.
func (s *Store) Path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

// WriteFileAtomic writes data to path, inside the store. Readers see the old content or the new one, even after a crash of
// this process or of the machine.
func (s *Store) WriteFileAtomic(path string, data []byte) error { return s.writeFile(path, data, true) }

// WriteCacheFile is WriteFileAtomic for content that can be made again: a power failure may damage it.
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
	return errors.Join(err, f.Close()) // releases the lock, now that the file has its name
}

// validDigest accepts well-formed sha256 digests only, so that a digest is always safe as a file name.
func validDigest(d digest.Digest) error {
	if d.Validate() != nil || d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("invalid digest %q: only sha256 is supported", d)
	}
	return nil
}
