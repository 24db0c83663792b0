package history

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// slack is how far the number of builds may pass the limit before the oldest are removed.
const slack = 20

// checkEvery is how many builds of a store go by between two looks at the size of all files.
const checkEvery = 16

// Trim applies the bounds after a build. Most builds only list the names of the files; what no build needs any more is removed when all
// builds that were there at the last time are gone, since that reads all that stay.
func (b *Builds) Trim() error {
	names, err := b.names()
	switch {
	case err != nil || len(names) == 0:
		return err
	case len(names)%checkEvery == 0:
		if size, err := b.size(); err == nil && size > Bounds.Size {
			_, err := b.Prune(Bounds)
			return err
		}
	}
	oldest, ok := parseFile(slices.Min(names))
	if len(names) < Bounds.Builds+slack && (!ok || oldest.started >= time.Now().Add(-Bounds.Age-24*time.Hour).UnixNano()) {
		return nil
	}
	kept, err := b.removeBeyond(Bounds)
	if err == nil && (len(kept) == 0 || b.swept().UnixNano() <= kept[len(kept)-1].started) {
		err = b.sweep()
	}
	return err
}

// names lists the names of the files of builds, but for logs. It is for a look that costs nothing.
func (b *Builds) names() ([]string, error) {
	dir, err := os.Open(b.dir)
	if err != nil {
		return nil, fmt.Errorf("list builds: %w", err)
	}
	defer func() { _ = dir.Close() }()
	all, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list builds: %w", err)
	}
	return slices.DeleteFunc(all, func(name string) bool { return !strings.Contains(name, "-") || strings.HasSuffix(name, logSuffix) }), nil
}

// sweptFile is touched by a sweep.
const sweptFile = "swept"

func (b *Builds) swept() time.Time {
	info, err := os.Stat(filepath.Join(b.dir, sweptFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
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

// sweep removes the ingredients and lists of files that no build refers to. While a build runs, what is younger than a day stays: the
// build may have written it, or found it there.
func (b *Builds) sweep() error {
	files, err := b.files()
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	grace := time.Duration(0)
	for _, f := range files {
		build, err := b.read(f)
		if err != nil {
			continue
		}
		if build.Status == Running {
			grace = 24 * time.Hour
		}
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
	young := time.Now().Add(-grace)
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
			if info, err := e.Info(); err == nil && info.ModTime().Before(young) {
				errs = append(errs, os.Remove(filepath.Join(b.dir, dir, e.Name())))
			}
		}
	}
	mark := filepath.Join(b.dir, sweptFile)
	if err := os.WriteFile(mark, nil, 0o600); err == nil {
		_ = os.Chtimes(mark, time.Time{}, time.Now()) // a file that is there keeps its time otherwise
	} else if !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
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
