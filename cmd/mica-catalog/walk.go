package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/inventory"
	"github.com/google/osv-scalibr/log"
)

const (
	// maxFile is the size of the largest file that is read, but for binaries, of which only tables are.
	maxFile = 256 << 20
	// maxFileTime is how long one extractor may take for one file.
	maxFileTime = time.Minute
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
	w := &walker{client: c, extractors: all}
	if err := w.dir(ctx, ".", 0); err != nil {
		return err
	}
	return c.done()
}

type walker struct {
	client     *client
	extractors []filesystem.Extractor
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
	for _, x := range w.extractors {
		if !w.wants(x, name, st) {
			continue
		}
		if st.Size() > maxFile && !tablesAlone[x.Name()] {
			if err := w.warn(name, fmt.Errorf("the file has %d bytes, the limit is %d", st.Size(), maxFile)); err != nil {
				return err
			}
			continue
		}
		found, err := w.extract(ctx, x, name, st)
		if err != nil {
			if err := w.warn(name, err); err != nil {
				return err
			}
		}
		if err := w.tell(found); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) wants(x filesystem.Extractor, name string, st fs.FileInfo) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return x.FileRequired(described{name, st})
}

// extract reads a file. The panic of an extractor is an error of the file.
func (w *walker) extract(ctx context.Context, x filesystem.Extractor, name string, st fs.FileInfo) (_ []*extractor.Package, err error) {
	in, err := w.client.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s: internal error: %v", x.Name(), v)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, maxFileTime)
	defer cancel()
	var found inventory.Inventory
	found, err = x.Extract(ctx, &filesystem.ScanInput{FS: w.client, Path: name, Info: st, Reader: in})
	return found.Packages, err
}

func (w *walker) tell(found []*extractor.Package) error {
	for _, p := range found {
		if p.Name == "" {
			continue
		}
		out := &Package{Type: p.PURLType, Name: p.Name, Version: p.Version, Licenses: slices.Clone(p.Licenses), Path: p.Location.PathOrEmpty()}
		out.Licenses = slices.DeleteFunc(out.Licenses, func(l string) bool { return strings.TrimSpace(l) == "" })
		if u := p.PURL(); u != nil {
			// That nobody knows where a package came from is not part of its name.
			kept := u.Qualifiers[:0]
			for _, q := range u.Qualifiers {
				if q.Key != "source" || q.Value != "UNKNOWN" {
					kept = append(kept, q)
				}
			}
			u.Qualifiers = kept
			out.PURL = u.String()
		}
		if err := w.client.tell(&request{Op: opPackage, Package: out}); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) warn(name string, err error) error {
	text := oneLine(err.Error())
	if len(text) > 300 {
		text = text[:300]
	}
	return w.client.tell(&request{Op: opWarn, Path: name, Text: text})
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
