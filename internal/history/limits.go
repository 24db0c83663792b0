package history

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// Limits bound what a store remembers.
type Limits struct {
	Builds int           // how many
	Age    time.Duration // since their start
	Size   int64         // bytes of all files
}

// Bounds are the limits that every build applies.
var Bounds = Limits{Builds: 200, Age: 90 * 24 * time.Hour, Size: 256 << 20}

// slack is how far the number of builds may pass the limit before the oldest are removed. It is small, so that no build removes many.
const slack = 4

// checkEvery is how many builds of a store go by between two looks at the size of all files.
const checkEvery = 16

// Trim applies the bounds after a build. grown is false for a build that wrote nothing but its record, as a cached rebuild does: it only
// lists names and removes a few old builds. What takes longer is left to a build whose steps run.
func (b *Builds) Trim(grown bool) error {
	names, err := b.names()
	if err != nil || len(names) == 0 {
		return err
	}
	oldest, ok := parseFile(slices.Min(names))
	if len(names) > Bounds.Builds+slack || ok && oldest.started < time.Now().Add(-Bounds.Age-24*time.Hour).UnixNano() {
		if _, err := b.removeBeyond(Bounds); err != nil {
			return err
		}
	}
	if grown {
		return b.trimFiles()
	}
	return nil
}

// trimFiles applies the bound of the size, and removes what no build needs. It looks at the size after some builds, and reads all records
// for a sweep when all builds of the last one are gone.
func (b *Builds) trimFiles() error {
	files, err := b.files()
	if err != nil {
		return err
	}
	if since(files, b.marked(measuredMark)) >= checkEvery {
		b.mark(measuredMark)
		if size, err := b.size(); err == nil && size > Bounds.Size {
			_, err := b.Prune(Bounds)
			return err
		}
	}
	if since(files, b.marked(sweptMark)) == len(files) {
		return b.sweep()
	}
	return nil
}

// since counts the builds that began after a time.
func since(files []file, at time.Time) (n int) {
	for _, f := range files {
		if at.IsZero() || f.started > at.UnixNano() {
			n++
		}
	}
	return n
}

// Files whose times say when something was done last: a sweep, and a look at the size of all files.
const (
	sweptMark    = "swept"
	measuredMark = "measured"
)

// marked returns the time of a mark, zero if there is none.
func (b *Builds) marked(name string) time.Time {
	info, err := os.Stat(filepath.Join(b.dir, name))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// mark sets the time of a mark. If it cannot, what it is for is done again.
func (b *Builds) mark(name string) {
	path := filepath.Join(b.dir, name)
	if os.WriteFile(path, nil, 0o600) == nil {
		_ = os.Chtimes(path, time.Time{}, time.Now()) // a file that is there keeps its time otherwise
	}
}

// removeBeyond removes the oldest builds until the limits of number and age hold, and returns the others.
func (b *Builds) removeBeyond(limits Limits) ([]file, error) {
	files, err := b.files()
	if err != nil {
		return nil, err
	}
	var errs []error
	oldest := time.Now().Add(-limits.Age).UnixNano()
	keep := len(files)
	for keep > 0 && (keep > limits.Builds || files[keep-1].started < oldest) {
		keep--
		errs = append(errs, b.removeOld(files[keep]))
	}
	return files[:keep], errors.Join(errs...)
}

// Prune removes the oldest builds until the limits hold, then what no remaining build needs. It returns the bytes that it freed.
func (b *Builds) Prune(limits Limits) (int64, error) {
	before, err := b.size()
	if err != nil {
		return 0, err
	}
	files, err := b.removeBeyond(limits)
	keep := len(files)
	errs := []error{err, b.sweep()}
	now, err := b.size()
	for now > limits.Size && keep > 0 && err == nil {
		n := min(keep, max(1, keep/8))
		for _, f := range files[keep-n : keep] {
			errs = append(errs, b.removeOld(f))
		}
		keep -= n
		errs = append(errs, b.sweep())
		now, err = b.size()
	}
	return before - now, errors.Join(append(errs, err)...)
}

// errRunning is the error for a build that cannot be removed.
var errRunning = errors.New("it is running")

// removeEnded removes a build unless it is running.
func (b *Builds) removeEnded(f file) error {
	if f.running { // by its name: it may have been killed
		if build, err := b.read(f); err == nil && build.Status == Running {
			return fmt.Errorf("build %s cannot be removed: %w", f.ref, errRunning)
		}
	}
	return b.removeFiles(f)
}

// removeOld is removeEnded for a prune, which leaves a running build.
func (b *Builds) removeOld(f file) error {
	if err := b.removeEnded(f); !errors.Is(err, errRunning) {
		return err
	}
	return nil
}

// sweepLock is held by a sweep while it removes files, and shared by a build while it appears among the others.
const sweepLock = "builds"

// sweep removes the ingredients and lists of files that no build refers to. While a build runs, what is younger than a day stays: the
// build may have written it, or found it there.
func (b *Builds) sweep() error {
	files, err := b.files()
	if err != nil {
		return err
	}
	needed, running := b.needed(files)
	lock, free, err := b.store.TryLock(sweepLock)
	if err != nil {
		return fmt.Errorf("remove records of builds: %w", err)
	}
	if !free {
		return nil // another sweep, or a build that begins right now; a later build sweeps
	}
	now, err := b.files()
	began := slices.ContainsFunc(now, func(f file) bool {
		return !slices.ContainsFunc(files, func(known file) bool { return known.name == f.name })
	})
	grace := time.Duration(0)
	if running || began {
		grace = 24 * time.Hour
	}
	if err == nil {
		err = b.removeUnneeded(needed, time.Now().Add(-grace))
	}
	b.mark(sweptMark)
	return errors.Join(err, lock.Unlock())
}

// needed returns the names of the files in steps/ and files/ that builds refer to, and whether one of the builds runs.
func (b *Builds) needed(files []file) (needed map[string]bool, running bool) {
	needed = map[string]bool{}
	for _, f := range files {
		build, err := b.read(f)
		if err != nil {
			continue
		}
		running = running || build.Status == Running
		for _, s := range build.Steps {
			if s.Key == "" || needed[s.Key.Encoded()] {
				continue
			}
			needed[s.Key.Encoded()] = true
			list, _ := b.Ingredients(s.Key)
			for _, in := range list {
				if d := digest.Digest(in.Value); d.Validate() == nil {
					needed[d.Encoded()] = true
				}
			}
		}
	}
	return needed, running
}

// removeUnneeded removes the ingredients and lists of files that are not needed and were made before a time.
func (b *Builds) removeUnneeded(needed map[string]bool, before time.Time) error {
	var errs []error
	for _, dir := range []string{stepsDir, filesDir} {
		entries, err := os.ReadDir(filepath.Join(b.dir, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("list builds: %w", err))
		}
		for _, e := range entries {
			if needed[e.Name()] {
				continue
			}
			if info, err := e.Info(); err == nil && info.ModTime().Before(before) {
				errs = append(errs, os.Remove(filepath.Join(b.dir, dir, e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// size is the bytes of all files.
func (b *Builds) size() (total int64, err error) {
	err = filepath.WalkDir(b.dir, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		if info, err := e.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("list builds: %w", err)
	}
	return total, nil
}
