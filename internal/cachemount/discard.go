package cachemount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// clientPrefix begins the IDs of mounts with files of clients.
const clientPrefix = "files of a client: "

// clientMarker begins the names of mounts with files of clients. No layer has this digest: no Dockerfile can name such a mount.
var clientMarker = []digest.Digest{digest.FromString("files of a client")}

// ClientFiles returns the name and the ID of the mount that keeps a directory of a client. key is what distinguishes it from others with
// its name.
func ClientFiles(dir, key string) (name, id string) {
	return Name(key, clientMarker), clientPrefix + dir
}

// Discard takes away the caches with an ID that no process uses, those without initial content or, if initial is set, those with any: their
// next user finds them as new. The caller removes what is returned, also beside an error.
func (m *Mounts) Discard(id string, initial bool) (taken []*store.Temp, err error) {
	dirs, err := os.ReadDir(m.store.Path(mountsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list cache mounts: %w", err)
	}
	for _, d := range dirs {
		if !m.has(d.Name(), id, initial) {
			continue
		}
		tmp, err := m.take(d.Name())
		if tmp != nil {
			taken = append(taken, tmp)
		}
		if err != nil {
			return taken, fmt.Errorf("discard cache mount %s: %w", id, err)
		}
	}
	return taken, nil
}

// has reports whether a directory is a cache with an ID, and not the files of a client.
func (m *Mounts) has(name, id string, initial bool) bool {
	base, _, _ := strings.Cut(name, "-") // of private ones
	if plain := base == Name(id, nil); plain || !initial {
		return plain && !initial
	}
	got, err := os.ReadFile(filepath.Join(m.dir(name), idName))
	return err == nil && string(got) == id && !strings.HasPrefix(id, clientPrefix)
}

// take moves a directory that no process uses into tmp/. It returns nil for one that is used.
func (m *Mounts) take(name string) (_ *store.Temp, err error) {
	lock, ok, err := m.store.TryLock(LockPrefix + name)
	if err != nil || !ok {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	tmp, err := m.store.TempDir("mount")
	if err != nil {
		return nil, err
	}
	err = os.Rename(m.dir(name), filepath.Join(tmp.Path, "gone"))
	if errors.Is(err, fs.ErrNotExist) { // a prune was first
		err = nil
	}
	return tmp, err
}
