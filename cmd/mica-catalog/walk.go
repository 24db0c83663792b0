package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/log"
)

const (
	// maxFile is the size of the largest database or archive that is read.
	maxFile = 256 << 20
	// maxMetadata is that of the largest file with the metadata of one package.
	maxMetadata = 16 << 20
	// maxBinary is that of the largest binary, of which only tables are read, but which mica may have to copy.
	maxBinary = 4 << 30
	// maxFileTime is how long one extractor may take for one file.
	maxFileTime = 30 * time.Second
	// maxDepth is how deep a directory may be, as PATH_MAX allows.
	maxDepth = 2048
)

// walk tells mica of the packages in the files that it serves.
func walk(ctx context.Context, c *client) error {
	all, err := extractors()
	if err != nil {
		return err
	}
	log.SetLogger(silent{})
	w := &walker{client: c, extractors: all, fileTime: maxFileTime}
	if err := w.dir(ctx, ".", 0); err != nil {
		return err
	}
	return c.done()
}

type walker struct {
	client     *client
	extractors []filesystem.Extractor
	fileTime   time.Duration
}

func (w *walker) dir(ctx context.Context, name string, depth int) error {
	if depth > maxDepth {
		return w.warn(name, errors.New("the directory is too deep"))
	}
	entries, err := w.client.ReadDir(name)
	if errors.As(err, new(*fs.PathError)) { // of this directory, not of the connection
		return w.warn(name, err)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := path.Join(name, e.Name())
		switch {
		case e.IsDir():
			err = w.dir(ctx, at, depth+1)
		case e.Type().IsRegular():
			err = w.file(ctx, at, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file has each extractor that wants a file read it.
func (w *walker) file(ctx context.Context, name string, e fs.DirEntry) error {
	st, err := e.Info()
	if err != nil {
		return err
	}
	var in *opened
	defer func() {
		if in != nil {
			_ = in.Close()
		}
	}()
	var warned int64 // the limit that a warning has named
	for _, x := range w.extractors {
		if !w.wants(x, name, st) {
			continue
		}
		if limit := sizeLimit(x); st.Size() > limit {
			if limit != warned {
				err = w.warn(name, fmt.Errorf("the file has %d bytes, the limit is %d", st.Size(), limit))
			}
			if err != nil {
				return err
			}
			warned = limit
			continue
		}
		if in, err = w.open(in, name); err != nil {
			return w.warn(name, err)
		}
		if readsTables(x) && !isBinary(in) {
			continue
		}
		found, err := w.extract(ctx, x, &filesystem.ScanInput{FS: w.client, Path: name, Info: st, Reader: in})
		for _, p := range found {
			if err := w.tell(p); err != nil {
				return err
			}
		}
		if errors.As(err, new(*hostError)) {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err != nil {
			if err := w.warn(name, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// open opens a file, or returns to the beginning of in, which is that file.
func (w *walker) open(in *opened, name string) (*opened, error) {
	if in == nil {
		return w.client.open(name)
	}
	_, err := in.Seek(0, io.SeekStart)
	return in, err
}

func (w *walker) wants(x filesystem.Extractor, name string, st fs.FileInfo) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	if readsTables(x) && scripts[path.Ext(name)] {
		return false
	}
	return x.FileRequired(described{name, st})
}

// errSlow is the error of a file that takes too long. Another time it may not.
var errSlow = errors.New("it takes too long to read")

// extract reads a file. The panic of an extractor is an error of the file. An extractor that does not end is left behind: it
// ends with the process.
func (w *walker) extract(ctx context.Context, x filesystem.Extractor, in *filesystem.ScanInput) ([]*extractor.Package, error) {
	ctx, cancel := context.WithTimeout(ctx, w.fileTime)
	defer cancel()
	type result struct {
		packages []*extractor.Package
		err      error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if v := recover(); v != nil {
				r = result{err: fmt.Errorf("%s: internal error: %v", x.Name(), v)}
			}
			done <- r
		}()
		found, err := x.Extract(ctx, in)
		r = result{found.Packages, err}
	}()
	select {
	case r := <-done:
		if r.err != nil && ctx.Err() != nil {
			r.err = errSlow
		}
		return r.packages, r.err
	case <-ctx.Done():
		return nil, errSlow
	}
}

// tell sends a package to mica.
func (w *walker) tell(p *extractor.Package) error {
	if p.Name == "" {
		return nil
	}
	out := describe(p)
	if len(out.Name) > maxText || len(out.Version) > maxText || len(out.PURL) > 3*maxText {
		return w.warn(out.Path, errors.New("the name or the version of a package is too long"))
	}
	return w.client.tell(&request{Op: opPackage, Package: out})
}

func (w *walker) warn(name string, err error) error {
	const most = 300
	text := oneLine(err.Error())
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " ..."
	}
	return w.client.tell(&request{Op: opWarn, Path: name, Text: text, Again: errors.Is(err, errSlow)})
}

// described is a file that an extractor may want.
type described struct {
	path string
	info fs.FileInfo
}

func (d described) Path() string               { return d.path }
func (d described) Stat() (fs.FileInfo, error) { return d.info, nil }

// silent discards the messages of the extractors. Errors are those that they return.
type silent struct{}

func (silent) Errorf(string, ...any) {}
func (silent) Error(...any)          {}
func (silent) Warnf(string, ...any)  {}
func (silent) Warn(...any)           {}
func (silent) Infof(string, ...any)  {}
func (silent) Info(...any)           {}
func (silent) Debugf(string, ...any) {}
func (silent) Debug(...any)          {}
