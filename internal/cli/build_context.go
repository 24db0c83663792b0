package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
)

// maxDockerfile bounds a Dockerfile that is read from stdin or a URL.
const maxDockerfile = 2 << 20

// openContext opens the context of a build: a directory, an archive, or with "-" a Dockerfile or an archive on stdin.
// cleanup removes what was spooled.
func openContext(ctx context.Context, app *App, spec *buildspec.Spec) (_ *builder.Context, cleanup func() error, err error) {
	none := func() error { return nil }
	path, dockerfile := spec.Path, spec.Dockerfile
	switch {
	case path == "-":
		if dockerfile == "-" {
			return nil, nil, errors.New("invalid argument: can't use stdin for both build context and dockerfile")
		}
		return contextFromStdin(ctx, app, dockerfile)
	case buildspec.IsRemote(path):
		c := &builder.Context{Remote: path}
		if filepath.IsAbs(dockerfile) {
			c.Inline, err = os.ReadFile(dockerfile)
		} else {
			c.Dockerfile, c.Inline, err = findDockerfile(ctx, app, dockerfile)
		}
		return c, none, err
	}
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil, fmt.Errorf("unable to prepare context: path %q not found", path)
		}
		return nil, nil, fmt.Errorf("unable to prepare context: %w", err)
	}
	if !info.IsDir() {
		f, err := os.Open(path)
		if err != nil {
			return nil, nil, fmt.Errorf("unable to prepare context: %w", err)
		}
		defer func() { _ = f.Close() }()
		in := bufio.NewReader(f)
		if !isArchive(in) {
			return nil, nil, fmt.Errorf("unable to prepare context: %s is neither a folder nor an archive", path)
		}
		return spoolArchive(app, in, dockerfile)
	}
	if dockerfile == "" {
		dockerfile = filepath.Join(path, "Dockerfile")
	}
	c := &builder.Context{Dir: path}
	c.Dockerfile, c.Inline, err = findDockerfile(ctx, app, dockerfile)
	return c, none, err
}

// checkDockerfile names a Dockerfile that does not exist as the user does. The compiler knows the end of its path alone.
func checkDockerfile(c *builder.Context) error {
	if c.Dir == "" || c.Inline != nil {
		return nil
	}
	name := c.Dockerfile
	_, err := os.Lstat(name)
	if dir, base := filepath.Split(name); err != nil && base == "Dockerfile" {
		if _, other := os.Lstat(filepath.Join(dir, "dockerfile")); other == nil {
			return nil
		}
	}
	var at *os.PathError
	if errors.As(err, &at) {
		return fmt.Errorf("failed to solve: failed to read dockerfile: open %s: %w", name, at.Err)
	}
	return err
}

// findDockerfile finds out what --file means: stdin, a URL, of which the text is read, or a path.
func findDockerfile(ctx context.Context, app *App, name string) (path string, text []byte, err error) {
	switch {
	case name == "-":
		text, err = readDockerfile(app.input(ctx), "stdin")
	case isWebURL(name):
		text, err = fetchDockerfile(ctx, name)
	default:
		path = name
	}
	return path, text, err
}

func isWebURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// fetch opens what a URL has. The error begins with the URL.
func fetch(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return resp.Body, nil
}

func fetchDockerfile(ctx context.Context, url string) ([]byte, error) {
	body, err := fetch(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("read Dockerfile from %w", err)
	}
	defer func() { _ = body.Close() }()
	return readDockerfile(body, url)
}

func contextFromStdin(ctx context.Context, app *App, dockerfile string) (*builder.Context, func() error, error) {
	in := bufio.NewReader(app.input(ctx))
	if isArchive(in) {
		return spoolArchive(app, in, dockerfile)
	}
	if dockerfile != "" {
		return nil, nil, errors.New("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
	}
	text, err := readDockerfile(in, "stdin")
	if err != nil {
		return nil, nil, err
	}
	return &builder.Context{Inline: text}, func() error { return nil }, nil
}

func readDockerfile(r io.Reader, from string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err != nil {
		return nil, fmt.Errorf("read Dockerfile from %s: %w", from, err)
	}
	if len(text) > maxDockerfile {
		return nil, fmt.Errorf("read Dockerfile from %s: it is larger than %d bytes", from, maxDockerfile)
	}
	if len(text) == 0 {
		return nil, fmt.Errorf("read Dockerfile from %s: it is empty", from)
	}
	return text, nil
}

// spoolArchive writes an archive to a temporary folder, for it is read more than once.
func spoolArchive(app *App, in io.Reader, dockerfile string) (*builder.Context, func() error, error) {
	tmp, err := app.Store.TempDir("context")
	if err != nil {
		return nil, nil, err
	}
	if err := spool(builder.SpoolName(tmp.Path), in); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read build context: %w", err), tmp.Remove())
	}
	return &builder.Context{Archive: tmp.Path, Dockerfile: dockerfile}, tmp.Remove, nil
}

func spool(path string, in io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}

// isArchive tells an archive from text by its first bytes: gzip, bzip2, xz, zstd, or a tar header's magic.
func isArchive(in *bufio.Reader) bool {
	head, _ := in.Peek(512)
	for _, magic := range []string{"\x1f\x8b\x08", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if strings.HasPrefix(string(head), magic) {
			return true
		}
	}
	return len(head) == 512 && string(head[257:262]) == "ustar"
}
