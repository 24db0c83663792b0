// Package podroot lends the root directory of a container to one root filesystem after the other, where nothing can be mounted and no process can
// enter another root directory. What the directory has of mica's image is moved away and back; what is mounted there, and mica itself, stay.
package podroot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/flock"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/store"
)

// Marker is a file of mica's own image. Without it, a root directory is never touched. It names the files and directories, one a line, that stay
// in their place while a step runs, beside its own directory and the program of mica.
const Marker = "/mica/image"

// allTurns is how many may keep steps out of the directory at once.
const allTurns = math.MaxInt32

// Root is the root directory of this container.
type Root struct {
	dir    string // "/"
	stash  string // a directory of it, for root filesystems
	own    []string
	mounts func() ([]string, error)

	turns *semaphore.Weighted // a step has all, who keeps steps out has one
}

// Find returns the root directory of this container, or an error if it is not that of mica's image.
func Find() (*Root, error) {
	text, err := os.ReadFile(Marker)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the container is not made of mica's image, which has the file %s: its root directory is not touched", Marker)
	}
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	own := []string{filepath.Dir(Marker), program}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); filepath.IsAbs(line) {
			own = append(own, line)
		}
	}
	return newRoot("/", own, mountPoints)
}

func newRoot(dir string, own []string, mounts func() ([]string, error)) (*Root, error) {
	r := &Root{dir: dir, stash: filepath.Join(dir, filepath.Dir(Marker), "roots"), mounts: mounts, turns: semaphore.NewWeighted(allTurns)}
	for _, path := range own {
		r.own = append(r.own, relative(path))
	}
	if err := os.MkdirAll(r.stash, 0o700); err != nil {
		return nil, fmt.Errorf("use the root directory: %w", err)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return nil, fmt.Errorf("use the root directory: %s is not writable: %w", dir, err)
	}
	if _, err := store.RemoveStaleTempIn(r.stash); err != nil {
		return nil, err
	}
	return r, nil
}

// relative is an absolute path without its first slash.
func relative(path string) string { return strings.TrimPrefix(filepath.Clean(path), "/") }

// Dir is the root directory.
func (r *Root) Dir() string { return r.dir }

// Keep has a file or directory stay in its place.
func (r *Root) Keep(path string) { r.own = append(r.own, relative(path)) }

// Temp makes a temporary directory in the filesystem of the root directory.
func (r *Root) Temp(kind string) (*store.Temp, error) { return store.TempIn(r.stash, kind) }

// Use is the root directory while it has the files of a root filesystem.
type Use struct {
	r     *Root
	tree  string // where the files come from
	image string // where those of mica's image are
	in    *move  // how the files came in
	lock  *os.File
}

// Enter moves the files of a directory that [Root.Temp] made, or of one below, to the root directory. It waits until nobody else uses it. Leave moves them back.
// The owners of directories in which something stays are kept in owners.
func (r *Root) Enter(ctx context.Context, from string, owners tree.Owners) (*Use, error) {
	if err := r.turns.Acquire(ctx, allTurns); err != nil {
		return nil, context.Cause(ctx)
	}
	u, err := r.enter(ctx, from, owners)
	if err != nil {
		r.turns.Release(allTurns)
		return nil, fmt.Errorf("use the root directory: %w", err)
	}
	return u, nil
}

func (r *Root) enter(ctx context.Context, from string, owners tree.Owners) (*Use, error) {
	lock, err := r.openLock()
	if err != nil {
		return nil, err
	}
	if err := flock.Wait(ctx, lock, flock.Exclusive); err != nil {
		return nil, err
	}
	u := &Use{r: r, tree: from, image: r.imageDir(), lock: lock}
	if err := u.begin(owners); err != nil {
		return nil, errors.Join(err, r.recover(), flock.Release(lock))
	}
	return u, nil
}

func (u *Use) begin(owners tree.Owners) error {
	r := u.r
	if err := r.recover(); err != nil { // what a process that was killed has left
		return err
	}
	stay, err := r.stays()
	if err != nil {
		return err
	}
	if err := stay.fits(u.tree); err != nil {
		return err
	}
	if err := os.Mkdir(u.image, 0o700); err != nil {
		return err
	}
	if err := (&move{from: r.dir, to: u.image, stay: stay}).all(); err != nil {
		return err
	}
	if err := os.WriteFile(r.journal(), []byte(u.tree+"\n"), 0o600); err != nil {
		return err
	}
	u.in = &move{from: u.tree, to: r.dir, stay: stay, owners: owners, times: map[string]dirTimes{}}
	if err := u.in.all(); err != nil {
		return errors.Join(err, u.leave()) // what has come goes back
	}
	return nil
}

// Lock is the lock of the root directory. A process that has it keeps others from using the directory.
func (u *Use) Lock() *os.File { return u.lock }

func (r *Root) imageDir() string { return filepath.Join(r.stash, "image") }

// journal is a file that is there while the root directory has files of a step: all that can be moved there may be removed then.
func (r *Root) journal() string { return filepath.Join(r.stash, "in-use") }

// recover makes the root directory what it was before its use.
func (r *Root) recover() error {
	stay, err := r.stays()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(r.journal()); err == nil {
		if err := stay.clear(r.dir); err != nil {
			return err
		}
		if err := os.Remove(r.journal()); err != nil {
			return err
		}
	}
	return r.returnImage(stay)
}

// returnImage moves the files of mica's image back.
func (r *Root) returnImage(stay *staying) error {
	if _, err := os.Lstat(r.imageDir()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := (&move{from: r.imageDir(), to: r.dir, stay: stay}).all(); err != nil {
		return err
	}
	return os.RemoveAll(r.imageDir())
}

// Stays reports whether a path, or something in it, stays in its place: nothing can be put there.
func (u *Use) Stays(path string) bool { return u.in.stay.kind(relative(path)) != moves }

// Leave moves the files back to where they came from. No process may use them any more.
func (u *Use) Leave() error {
	r := u.r
	err := u.leave()
	if err != nil {
		err = errors.Join(fmt.Errorf("leave the root directory: %w", err), r.recover())
	}
	err = errors.Join(err, flock.Release(u.lock))
	r.turns.Release(allTurns)
	return err
}

func (u *Use) leave() error {
	stay, err := u.r.stays()
	if err != nil {
		return err
	}
	out := &move{from: u.r.dir, to: u.tree, stay: stay, owners: u.in.owners, before: u.in.times}
	if err := out.all(); err != nil {
		return err
	}
	if err := os.Remove(u.r.journal()); err != nil {
		return err
	}
	return u.r.returnImage(stay)
}
