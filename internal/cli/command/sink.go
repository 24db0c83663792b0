package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Sink takes output whose destination changes only when it is complete.
type Sink interface {
	io.WriteCloser
	// Commit completes the output. Close without it discards a file.
	Commit() error
}

// Create opens a file that appears when it is complete, or stdout for "" and "-".
func (a *App) Create(dest string) (Sink, error) {
	if dest == "" || dest == "-" {
		if a.Stdout.IsTerminal() {
			return nil, errors.New("dest is required: refusing to write an archive to a terminal")
		}
		return stdoutSink{a.Stdout.File()}, nil
	}
	if real, err := filepath.EvalSymlinks(dest); err == nil {
		dest = real // the file is replaced, not the link to it
	}
	if info, err := os.Stat(dest); err == nil && info.IsDir() {
		return nil, fmt.Errorf("destination %s is a directory", dest)
	} else if err == nil && !info.Mode().IsRegular() {
		return openSpecial(dest)
	}
	f, err := os.CreateTemp(filepath.Dir(dest), "."+filepath.Base(dest)+".tmp-")
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", dest, err)
	}
	mode := 0o666 &^ a.umask
	if info, err := os.Stat(dest); err == nil {
		mode = info.Mode().Perm()
	}
	return &fileSink{f, dest, mode}, nil
}

type stdoutSink struct{ io.Writer }

func (stdoutSink) Commit() error { return nil }
func (stdoutSink) Close() error  { return nil }

// openSpecial opens a device or a pipe, which is written to and never replaced.
func openSpecial(dest string) (Sink, error) {
	f, err := os.OpenFile(dest, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dest, err)
	}
	return specialSink{f}, nil
}

type specialSink struct{ *os.File }

func (specialSink) Commit() error { return nil }

type fileSink struct {
	*os.File
	dest string
	mode os.FileMode
}

// Commit gives the file its name, and the permissions of the one that it replaces or of an ordinary new one.
func (s *fileSink) Commit() error {
	err := errors.Join(s.Chmod(s.mode), s.File.Close())
	if err == nil {
		err = os.Rename(s.Name(), s.dest)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", s.dest, err)
	}
	return nil
}

// Close discards the file unless it was committed.
func (s *fileSink) Close() error {
	_ = s.File.Close()
	if err := os.Remove(s.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// WritePrivate writes to stdout, or to a file that appears when it is complete and that only its owner may read.
func (a *App) WritePrivate(dest string, write func(io.Writer) error) (err error) {
	sink, err := a.Create(dest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	if f, ok := sink.(*fileSink); ok {
		f.mode = 0o600 // as docker's: an image may hold what is not for everybody
	}
	if err := write(sink); err != nil {
		return err
	}
	return sink.Commit()
}
