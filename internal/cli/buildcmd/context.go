package buildcmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/sources"
)

// maxDockerfile bounds a Dockerfile that is read from stdin or a URL.
const maxDockerfile = 2 << 20

// openContext opens the context of a build: a directory, an archive, a URL, or with "-" a Dockerfile or an archive on stdin.
// cleanup removes what was spooled.
func openContext(ctx context.Context, app *command.App, spec *buildspec.Spec) (_ builder.Context, cleanup func() error, err error) {
	none := func() error { return nil }
	path, dockerfile := spec.Path, spec.Dockerfile
	if path == "-" {
		if dockerfile == "-" {
			return nil, nil, errors.New("invalid argument: can't use stdin for both build context and dockerfile")
		}
		return contextFromStdin(ctx, app, dockerfile)
	}
	if !buildspec.IsRemote(path) {
		archive, err := openArchive(path)
		if err != nil {
			return nil, nil, fmt.Errorf("unable to prepare context: %w", err)
		}
		if archive != nil {
			defer func() { _ = archive.Close() }()
			c, cleanup, err := builder.SpoolArchive(app.Store, archive, dockerfile)
			if spec.Inline != nil {
				c = builder.InlineDockerfile{Context: c, Text: spec.Inline}
			}
			return c, cleanup, err
		}
	}
	text := spec.Inline
	if text == nil {
		if dockerfile, text, err = findDockerfile(ctx, app, dockerfile, buildspec.IsRemote(path)); err != nil {
			return nil, nil, err
		}
	}
	var c builder.Context = builder.DirContext{Dir: path, Dockerfile: dockerfile}
	if buildspec.IsRemote(path) {
		c = builder.RemoteContext{URL: path, Dockerfile: dockerfile}
	}
	if text != nil {
		c = builder.InlineDockerfile{Context: c, Text: text}
	}
	return c, none, nil
}

// openArchive opens a context that is a file, which has to be an archive. It returns nil for a directory.
func openArchive(path string) (*archiveFile, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("path %q not found", path)
	}
	if err != nil || info.IsDir() {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	in := bufio.NewReader(f)
	if !isArchive(in) {
		_ = f.Close()
		return nil, fmt.Errorf("%s is neither a directory nor an archive", path)
	}
	return &archiveFile{in, f}, nil
}

// archiveFile is a file whose first bytes were read before.
type archiveFile struct {
	io.Reader
	io.Closer
}

// findDockerfile returns the path that --file names, or the text of a Dockerfile on stdin or at a URL. Of a remote context, an
// absolute path is one of the host.
func findDockerfile(ctx context.Context, app *command.App, name string, remote bool) (path string, text []byte, err error) {
	switch {
	case name == "-":
		text, err = readDockerfile(app.Input(ctx), "stdin")
	case sources.IsWebURL(name):
		text, err = fetchDockerfile(ctx, name)
	case remote && filepath.IsAbs(name):
		text, err = os.ReadFile(name)
	default:
		path = name
	}
	return path, text, err
}

func fetchDockerfile(ctx context.Context, url string) ([]byte, error) {
	body, err := sources.Fetch(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("read Dockerfile from %w", err)
	}
	defer func() { _ = body.Close() }()
	return readDockerfile(body, url)
}

func contextFromStdin(ctx context.Context, app *command.App, dockerfile string) (builder.Context, func() error, error) {
	in := bufio.NewReader(app.Input(ctx))
	if isArchive(in) {
		return builder.SpoolArchive(app.Store, in, dockerfile)
	}
	if dockerfile != "" {
		return nil, nil, errors.New("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
	}
	text, err := readDockerfile(in, "stdin")
	if err != nil {
		return nil, nil, err
	}
	return builder.InlineDockerfile{Context: builder.EmptyContext{}, Text: text}, func() error { return nil }, nil
}

func readDockerfile(r io.Reader, from string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err != nil {
		return nil, fmt.Errorf("read Dockerfile from %s: %w", from, err)
	}
	if len(text) > maxDockerfile {
		return nil, fmt.Errorf("read Dockerfile from %s: larger than %d bytes", from, maxDockerfile)
	}
	if len(text) == 0 {
		return nil, fmt.Errorf("read Dockerfile from %s: the text is empty", from)
	}
	return text, nil
}

// isArchive distinguishes an archive from text by its first bytes: gzip, bzip2, xz, zstd, or a tar header's magic.
func isArchive(in *bufio.Reader) bool {
	head, _ := in.Peek(512)
	for _, magic := range []string{"\x1f\x8b\x08", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if strings.HasPrefix(string(head), magic) {
			return true
		}
	}
	return len(head) == 512 && string(head[257:262]) == "ustar"
}
