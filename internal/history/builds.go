package history

import (
	"bufio"
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
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/flock"
	"github.com/micabuild/mica/internal/store"
)

// Builds are the builds that a store remembers. The name of a build's file has its time, its line and its ref, so that the
// directory's listing finds the builds of one line without reading others.
type Builds struct {
	store  *store.Store
	dir    string
	memory *memory // of Transient
}

// Open returns the builds of a store.
func Open(s *store.Store) *Builds { return &Builds{store: s, dir: s.Path("builds")} }

// Transient returns the builds of a store. What is saved of steps is kept in memory, beside what the store has.
func Transient(s *store.Store) *Builds {
	b := Open(s)
	b.memory = &memory{files: map[string][]byte{}}
	return b
}

// memory has files that are not written, by their paths.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
}

func (m *memory) load(path string) ([]byte, bool) {
	if m == nil {
		return nil, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.files[path]
	return data, ok
}

func (m *memory) save(path string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[path] = data
}

// The files of a build, by their suffixes; a finished build's record has none.
const (
	runningSuffix = ".running" // its record at the start, then each update; its process holds the lock
	logSuffix     = ".log"     // what its steps wrote: Log, a line each
	// provenanceSuffix is that of what a client of BuildKit's API learns of how its build was made: JSON by platform.
	provenanceSuffix = ".provenance"
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
	if len(parts) != 3 || len(parts[0]) != 16 || !alphanumeric(parts[1]) || !alphanumeric(parts[2]) {
		return file{}, false
	}
	at, err := strconv.ParseInt(parts[0], 16, 64)
	if err != nil {
		return file{}, false
	}
	return file{base, at, parts[1], parts[2], running}, true
}

// maxRef is the length of a ref that can be a part of the name of a file.
const maxRef = 64

// ValidRef reports whether a build of this ref can be recorded. Those that BuildKit's clients make (identity.NewID) are valid.
func ValidRef(ref string) bool { return len(ref) <= maxRef && alphanumeric(ref) }

// alphanumeric reports whether s can be a part of the name of a file.
func alphanumeric(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
}

// files lists the files of builds, the newest first. A build that has ended while it was listed may be there as running.
func (b *Builds) files() ([]file, error) {
	names, err := b.names()
	if err != nil {
		return nil, err
	}
	slices.Sort(names) // a build that has just ended has two files: that of the end comes first
	list := make([]file, 0, len(names))
	for _, name := range names {
		if f, ok := parseFile(name); ok && (len(list) == 0 || list[len(list)-1].name != f.name) {
			list = append(list, f)
		}
	}
	slices.Reverse(list)
	return list, nil
}

// names lists the names of the files of builds, and few others, in no order: that alone takes a third of the time of files.
func (b *Builds) names() ([]string, error) {
	dir, err := os.Open(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list builds: %w", err)
	}
	defer func() { _ = dir.Close() }()
	all, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list builds: %w", err)
	}
	return slices.DeleteFunc(all, func(name string) bool {
		return !strings.Contains(name, "-") || strings.HasSuffix(name, logSuffix) || strings.HasSuffix(name, provenanceSuffix)
	}), nil
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
		return b.nth(files, n, name)
	}
	var found []file
	for _, f := range files {
		if f.ref == name {
			return b.find(f, name)
		}
		if strings.HasPrefix(f.ref, name) {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 0:
		return nil, notFound(name)
	case 1:
		return b.find(found[0], name)
	}
	return nil, fmt.Errorf("%d builds begin with %s: give more of the ref", len(found), name)
}

// find reads a build that was listed.
func (b *Builds) find(f file, name string) (*Build, error) {
	build, err := b.read(f)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(name)
	}
	return build, err
}

func notFound(name string) error {
	return fmt.Errorf("%w: %s (mica builds lists them)", ErrNotFound, name)
}

// nth returns the nth newest build whose record can be read.
func (b *Builds) nth(files []file, n int, name string) (*Build, error) {
	readable := 0
	for _, f := range files {
		build, err := b.read(f)
		if err != nil {
			continue
		}
		if readable == n {
			return build, nil
		}
		readable++
	}
	return nil, fmt.Errorf("%w: %s (the store remembers %d builds)", ErrNotFound, orNewest(name), readable)
}

func orNewest(name string) string {
	if name == "" {
		return "^0"
	}
	return name
}

// read reads the record of a build: fs.ErrNotExist if the build was removed after it was listed.
func (b *Builds) read(f file) (*Build, error) {
	path := filepath.Join(b.dir, f.name)
	build, err := readEnded(path)
	if f.running && errors.Is(err, fs.ErrNotExist) {
		build, err = b.readRunning(path + runningSuffix)
		if err != nil || build.Status != Running { // or it has ended in the meantime
			if ended, endErr := readEnded(path); !errors.Is(endErr, fs.ErrNotExist) {
				build, err = ended, endErr
			}
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read build %s: %w", f.ref, err)
	}
	if err == nil && (build.Ref != f.ref || build.Line != f.line || build.Started.UnixNano() != f.started) {
		err = errors.New("the record is of another build")
	}
	if err == nil {
		err = build.Validate()
	}
	if err != nil {
		return nil, &DamagedError{f.ref, err, f}
	}
	build.file = f
	return build, nil
}

// readEnded reads the record of the end of a build.
func readEnded(path string) (*Build, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	build := &Build{}
	if err := json.Unmarshal(data, build); err != nil {
		return nil, err
	}
	if build.Status == Running {
		build.Status = Interrupted // a record of the end that does not know of one
	}
	return build, nil
}

// DamagedError is the error for the record of a build that cannot be read.
type DamagedError struct {
	Ref  string
	Err  error
	file file
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("read build %s: %v (mica builds rm %s removes it)", e.Ref, e.Err, e.Ref)
}

// Unwrap returns what is wrong with the record.
func (e *DamagedError) Unwrap() error { return e.Err }

// readRunning reads the record of a build that has not ended: it runs, or its process was killed.
func (b *Builds) readRunning(path string) (*Build, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	build := &Build{}
	dec := json.NewDecoder(bufio.NewReader(f))
	if err := errors.Join(dec.Decode(build), build.Validate()); err != nil {
		return nil, err
	}
	for {
		var u update
		if err := dec.Decode(&u); err != nil {
			break // the last update may be written right now, or never have been
		}
		build.apply(u)
	}
	free, err := flock.Try(f, flock.Shared)
	if err != nil {
		return nil, err
	}
	if free && build.Status == Running {
		build.Status = Interrupted
	}
	return build, nil
}

// Remove removes builds that have ended, by their names as Find takes them, also such whose records are damaged, and what only they
// need. It returns the refs of those that were removed, and an error for each of the others.
func (b *Builds) Remove(names ...string) (removed []string, errs []error) {
	var found []file
	for _, name := range names { // all before one is removed: ^1 is another build then
		build, err := b.Find(name)
		var damaged *DamagedError
		switch {
		case errors.As(err, &damaged):
			found = append(found, damaged.file)
		case err != nil:
			errs = append(errs, err)
		default:
			found = append(found, build.file)
		}
	}
	for _, f := range found {
		if err := b.removeEnded(f); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, f.ref)
	}
	if len(removed) == 0 {
		return nil, errs
	}
	if err := b.sweep(); err != nil {
		errs = append(errs, err)
	}
	return removed, errs
}

// removeFiles removes the files of a build.
func (b *Builds) removeFiles(f file) error {
	path := filepath.Join(b.dir, f.name)
	var errs []error
	for _, suffix := range []string{logSuffix, provenanceSuffix, runningSuffix, ""} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove build: %w", err))
		}
	}
	return errors.Join(errs...)
}
