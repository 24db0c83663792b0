package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/flock"
	"github.com/micabuild/mica/internal/store"
)

// Builds are the builds that a store remembers. The name of a build's file has its time, its line and its ref, so that the
// directory's listing finds the builds of one line without reading others.
type Builds struct {
	store *store.Store
	dir   string
}

// Open returns the builds of a store.
func Open(s *store.Store) *Builds { return &Builds{store: s, dir: s.Path("builds")} }

// The files of a build, by their suffixes; a finished build's record has none.
const (
	runningSuffix = ".running" // its record at the start; its process holds the lock
	logSuffix     = ".log"     // what its steps wrote: Log, a line each
)

// file is the parsed name of a build's file.
type file struct {
	name    string // without a suffix
	started int64  // in nanoseconds
	line    string
	ref     string
	running bool
}

// LineOf is the line of builds of a context, a Dockerfile and a target.
func LineOf(context, dockerfile, target string) string {
	sum := digest.FromString(fmt.Sprintf("%q %q %q", context, dockerfile, target))
	return sum.Encoded()[:12]
}

func fileName(b *Build) string {
	return fmt.Sprintf("%016x-%s-%s", b.Started.UnixNano(), b.Line, b.Ref)
}

func parseFile(name string) (file, bool) {
	base, running := strings.CutSuffix(name, runningSuffix)
	parts := strings.Split(base, "-")
	if len(parts) != 3 || len(parts[0]) != 16 || strings.Contains(base, ".") {
		return file{}, false
	}
	at, err := strconv.ParseInt(parts[0], 16, 64)
	if err != nil {
		return file{}, false
	}
	return file{base, at, parts[1], parts[2], running}, true
}

// files lists the files of builds, the newest first. A build that has ended while it was listed may be there as running.
func (b *Builds) files() ([]file, error) {
	entries, err := os.ReadDir(b.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list builds: %w", err)
	}
	var list []file
	for _, e := range entries {
		if f, ok := parseFile(e.Name()); ok {
			list = append(list, f)
		}
	}
	slices.SortStableFunc(list, func(a, b file) int { return strings.Compare(b.name, a.name) })
	return slices.CompactFunc(list, func(a, b file) bool { return a.name == b.name }), nil
}

// List returns all builds, the newest first. A damaged record is left out.
func (b *Builds) List() ([]*Build, error) {
	files, err := b.files()
	if err != nil {
		return nil, err
	}
	var list []*Build
	for _, f := range files {
		if build, err := b.read(f); err == nil {
			list = append(list, build)
		}
	}
	return list, nil
}

// Earlier returns the finished builds of a line, the newest first.
func (b *Builds) Earlier(line string) iter.Seq[*Build] {
	return func(yield func(*Build) bool) {
		files, err := b.files()
		if err != nil {
			return
		}
		for _, f := range files {
			if f.running || f.line != line {
				continue
			}
			if build, err := b.read(f); err == nil && !yield(build) {
				return
			}
		}
	}
}

// ErrNotFound is the error of Find for a name that no build has.
var ErrNotFound = errors.New("no such build")

// Find returns a build by its ref, by the beginning of that, or as ^N: the newest build is ^0, the one before it ^1. "" is ^0.
func (b *Builds) Find(name string) (*Build, error) {
	files, err := b.files()
	if err != nil {
		return nil, err
	}
	if offset, ok := strings.CutPrefix(name, "^"); ok || name == "" {
		n := 0
		if offset != "" {
			if n, err = strconv.Atoi(offset); err != nil || n < 0 {
				return nil, fmt.Errorf("invalid build %q: use ^N, N builds before the newest", name)
			}
		}
		if n >= len(files) {
			return nil, fmt.Errorf("%w: %s (the store remembers %d builds)", ErrNotFound, orNewest(name), len(files))
		}
		return b.read(files[n])
	}
	var found []file
	for _, f := range files {
		if f.ref == name {
			return b.read(f)
		}
		if strings.HasPrefix(f.ref, name) {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: %s (mica builds lists them)", ErrNotFound, name)
	case 1:
		return b.read(found[0])
	}
	return nil, fmt.Errorf("%d builds begin with %s: give more of the ref", len(found), name)
}

func orNewest(name string) string {
	if name == "" {
		return "^0"
	}
	return name
}

func (b *Builds) read(f file) (*Build, error) {
	path := filepath.Join(b.dir, f.name)
	build := &Build{}
	data, err := os.ReadFile(path)
	if f.running && errors.Is(err, fs.ErrNotExist) {
		return b.readRunning(path + runningSuffix)
	}
	if err == nil {
		err = json.Unmarshal(data, build)
	}
	if err == nil && (build.Ref != f.ref || build.Line != f.line) {
		err = errors.New("the record is of another build")
	}
	if err != nil {
		return nil, fmt.Errorf("read build %s: %w", f.ref, err)
	}
	return build, nil
}

// readRunning reads the record of a build that has not ended: it runs, or its process was killed.
func (b *Builds) readRunning(path string) (*Build, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read build: %w", err)
	}
	defer func() { _ = f.Close() }()
	build := &Build{}
	if err := json.NewDecoder(f).Decode(build); err != nil {
		return nil, fmt.Errorf("read build %s: %w", filepath.Base(path), err)
	}
	free, err := flock.Try(f, flock.Shared)
	if err != nil {
		return nil, fmt.Errorf("read build %s: %w", build.Ref, err)
	}
	if free {
		build.Status = Interrupted
	}
	return build, nil
}

// Remove removes a build that has ended.
func (b *Builds) Remove(build *Build) error {
	if build.Status == Running {
		return fmt.Errorf("build %s is running: it cannot be removed", build.Ref)
	}
	path := filepath.Join(b.dir, fileName(build))
	var errs []error
	for _, suffix := range []string{logSuffix, runningSuffix, ""} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove build: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Limits bound what a store remembers.
type Limits struct {
	Builds int           // how many
	Age    time.Duration // since their start
	Size   int64         // bytes of all files
}

// Bounds are the limits that every build applies.
var Bounds = Limits{Builds: 200, Age: 90 * 24 * time.Hour, Size: 256 << 20}

// slack is how far the number of builds may pass the limit before they are pruned: a prune reads all that stay.
const slack = 20

// Full reports whether the number of builds calls for a prune.
func (b *Builds) Full() bool {
	files, err := b.files()
	return err == nil && len(files) >= Bounds.Builds+slack
}

// Prune removes the oldest builds until the limits hold, then what no remaining build needs. It returns the bytes that it freed.
func (b *Builds) Prune(limits Limits) (int64, error) {
	files, err := b.files()
	if err != nil {
		return 0, err
	}
	before, err := b.size()
	if err != nil {
		return 0, err
	}
	var errs []error
	oldest := time.Now().Add(-limits.Age).UnixNano()
	keep := len(files)
	for keep > 0 && (keep > limits.Builds || files[keep-1].started < oldest) {
		keep--
		errs = append(errs, b.removeEnded(files[keep]))
	}
	errs = append(errs, b.sweep(files[:keep]))
	now, err := b.size()
	for now > limits.Size && keep > 0 && err == nil {
		n := min(keep, max(1, keep/8))
		for _, f := range files[keep-n : keep] {
			errs = append(errs, b.removeEnded(f))
		}
		keep -= n
		errs = append(errs, b.sweep(files[:keep]))
		now, err = b.size()
	}
	return before - now, errors.Join(append(errs, err)...)
}

func (b *Builds) removeEnded(f file) error {
	build, err := b.read(f)
	if err != nil {
		build = &Build{Ref: f.ref, Line: f.line, Started: time.Unix(0, f.started)}
	}
	if build.Status == Running {
		return nil
	}
	return b.Remove(build)
}

// sweep removes the ingredients and lists of files that none of the builds refers to. What is younger than an hour stays: a build
// that runs may have written it.
func (b *Builds) sweep(files []file) error {
	needed := map[string]bool{}
	for _, f := range files {
		build, err := b.read(f)
		if err != nil {
			continue
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
	young := time.Now().Add(-time.Hour)
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
