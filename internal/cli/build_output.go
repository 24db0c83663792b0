package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/term"

	"github.com/micabuild/mica/internal/build"
	"github.com/micabuild/mica/internal/compression"
)

// parseOutput reads --output: "type=oci,dest=FILE", or a bare path for type=local, or "-" for type=tar to stdout.
func parseOutput(app *App, s string) (*build.Export, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return nil, fmt.Errorf("invalid output %q: %w", s, err)
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") {
		if fields[0] == "-" {
			return newExport(app, map[string]string{"type": build.ExportTar, "dest": "-"})
		}
		return newExport(app, map[string]string{"type": build.ExportLocal, "dest": fields[0]})
	}
	attrs := map[string]string{}
	for _, f := range fields {
		k, v, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("invalid value %s in output %q: expected key=value", f, s)
		}
		attrs[strings.ToLower(strings.TrimSpace(k))] = v
	}
	return newExport(app, attrs)
}

// exportRegistry is an image that is pushed, as `--push` asks for.
const exportRegistry = "registry"

// outputAttributes are what each type understands beside its type.
var outputAttributes = map[string][]string{
	build.ExportImage:  {"name", "push", "compression", "compression-level", "force-compression"},
	exportRegistry:     {"name", "compression", "compression-level", "force-compression"},
	build.ExportOCI:    {"name", "dest", "tar"},
	build.ExportDocker: {"name", "dest", "tar"},
	build.ExportTar:    {"dest"},
	build.ExportLocal:  {"dest"},
}

func newExport(app *App, attrs map[string]string) (*build.Export, error) {
	e := &build.Export{Type: attrs["type"]}
	if e.Type == "" {
		return nil, errors.New("type is required for output")
	}
	known, ok := outputAttributes[e.Type]
	if !ok {
		return nil, fmt.Errorf("unknown output type %q: use image, registry, oci, docker, tar or local", e.Type)
	}
	for k := range attrs {
		if k != "type" && !slices.Contains(known, k) {
			return nil, fmt.Errorf("output type %s has no attribute %q", e.Type, k)
		}
	}
	if v, ok := attrs["tar"]; ok && v != "true" {
		return nil, fmt.Errorf("output type %s: tar=%s is not supported", e.Type, v)
	}
	for name := range strings.SplitSeq(attrs["name"], ",") {
		if name != "" {
			e.Names = append(e.Names, name)
		}
	}
	if e.Type == build.ExportImage || e.Type == exportRegistry {
		return e, imageOutput(e, attrs)
	}
	dest := attrs["dest"]
	// Better said before a long build than after.
	if info, err := os.Stat(filepath.Dir(dest)); e.Type != build.ExportLocal && (err != nil || !info.IsDir()) {
		return nil, fmt.Errorf("destination %s: no such folder", filepath.Dir(dest))
	}
	switch e.Type {
	case build.ExportLocal:
		if dest == "" || dest == "-" {
			return nil, errors.New("dest is required for output type local: a folder")
		}
		e.Dir = dest
	case build.ExportDocker:
		if dest == "" {
			// Without a file, type=docker loads the image, as `docker build --load` does.
			e.Type = build.ExportImage
			return e, nil
		}
		e.Create = destination(app, dest)
	default:
		e.Create = destination(app, dest)
	}
	return e, nil
}

// imageOutput reads what an image in the store, or one that is pushed, is told.
func imageOutput(e *build.Export, attrs map[string]string) (err error) {
	e.Push = e.Type == exportRegistry
	e.Type = build.ExportImage
	for key, to := range map[string]*bool{"push": &e.Push, "force-compression": &e.Upload.Force} {
		if v, ok := attrs[key]; ok {
			if *to, err = strconv.ParseBool(v); err != nil {
				return fmt.Errorf("output attribute %s: %q is neither true nor false", key, v)
			}
		}
	}
	if v, ok := attrs["compression-level"]; ok {
		if e.Upload.Level, err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("output attribute compression-level: %q is no number", v)
		}
	}
	e.Upload.Compression = compression.Gzip
	switch v := attrs["compression"]; v {
	case "":
	case "uncompressed", "none":
		e.Upload.Compression = compression.None
	default:
		e.Upload.Compression = compression.Algorithm(v)
	}
	return compression.CheckLevel(e.Upload.Compression, e.Upload.Level)
}

// destination opens a file that appears when it is whole, or stdout for "" and "-".
func destination(app *App, dest string) func() (build.Sink, error) {
	return func() (build.Sink, error) {
		if dest == "" || dest == "-" {
			if f, ok := app.Stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				return nil, errors.New("dest is required: refusing to write an archive to a terminal")
			}
			return stdoutSink{app.Stdout}, nil
		}
		if real, err := filepath.EvalSymlinks(dest); err == nil {
			dest = real // the file is replaced, not the link to it
		}
		if info, err := os.Stat(dest); err == nil && info.IsDir() {
			return nil, fmt.Errorf("destination %s is a folder", dest)
		} else if err == nil && !info.Mode().IsRegular() {
			return openSpecial(dest)
		}
		f, err := os.CreateTemp(filepath.Dir(dest), "."+filepath.Base(dest)+".tmp-")
		if err != nil {
			return nil, fmt.Errorf("create %s: %w", dest, err)
		}
		mode := 0o666 &^ app.umask
		if info, err := os.Stat(dest); err == nil {
			mode = info.Mode().Perm()
		}
		return &fileSink{f, dest, mode}, nil
	}
}

type stdoutSink struct{ io.Writer }

func (stdoutSink) Commit() error { return nil }
func (stdoutSink) Close() error  { return nil }

// openSpecial opens a device or a pipe, which is written to and never replaced.
func openSpecial(dest string) (build.Sink, error) {
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
