package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/inventory"
)

// rpmDatabase reads databases of rpm as far as they can be read, and says so if that is not all: the library ends without an
// error where SQLite finds that a database is damaged.
type rpmDatabase struct{ filesystem.Extractor }

// hostError is an error that is not one of the image: the list without the file would be wrong, and would be kept.
type hostError struct{ error }

func (e *hostError) Unwrap() error { return e.error }

// Extract reads a copy of the database: SQLite wants a file with a name, and beside it the log of what was written last.
func (r rpmDatabase) Extract(ctx context.Context, in *filesystem.ScanInput) (inventory.Inventory, error) {
	dir, err := os.MkdirTemp("", "rpm")
	if err != nil {
		return inventory.Inventory{}, &hostError{err}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	name := filepath.Join(dir, in.Path)
	if err := copyDatabase(in, name); err != nil {
		return inventory.Inventory{}, err
	}
	local := *in
	local.Root = dir
	found, err := r.Extractor.Extract(ctx, &local)
	if err != nil {
		return found, errors.New(strings.ReplaceAll(err.Error(), name, filepath.Base(name)))
	}
	if filepath.Ext(name) == ".sqlite" {
		err = complain(ctx, name, len(found.Packages))
	}
	return found, err
}

func copyDatabase(in *filesystem.ScanInput, name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return &hostError{err}
	}
	if err := copyFile(name, in.Reader); err != nil {
		return err
	}
	wal, err := in.FS.Open(in.Path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = wal.Close() }()
	if st, err := wal.Stat(); err != nil || st.Size() > maxFile {
		return errors.Join(errors.New("its log is too large"), err)
	}
	return copyFile(name+"-wal", wal)
}

func copyFile(name string, in io.Reader) error {
	out, err := os.Create(name)
	if err == nil {
		_, err = io.Copy(out, in)
		err = errors.Join(err, out.Close())
	}
	if err != nil {
		return &hostError{fmt.Errorf("copy the database: %w", err)}
	}
	return nil
}

// complain returns an error if an SQLite database has not as many packages as were found.
func complain(ctx context.Context, name string, found int) error {
	db, err := sql.Open("sqlite", name) // its driver is that of the library
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	var all int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM Packages").Scan(&all); err != nil {
		return fmt.Errorf("the database is damaged: %w", err)
	}
	if all != found {
		return fmt.Errorf("the database is damaged: %d of %d packages can be read", found, all)
	}
	return nil
}
