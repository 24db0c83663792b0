package kanikocmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/kaniko"
	"github.com/micabuild/mica/internal/localdir"
	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/sources"
	"github.com/micabuild/mica/internal/view"
)

// openContext returns the directory of a build context. cleanup removes what was fetched.
func openContext(ctx context.Context, app *command.App, s kaniko.Source) (dir string, cleanup func() error, err error) {
	if s.Kind == kaniko.Directory {
		return s.Place, func() error { return nil }, nil
	}
	tmp, err := app.Store.TempDir("context")
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(tmp.Path, "files")
	if s.Kind == kaniko.Repository {
		err = fetchRepository(ctx, app, s, dir)
	} else {
		err = fetchArchive(ctx, app, s, tmp.Path, dir)
	}
	if err != nil {
		return "", nil, errors.Join(err, tmp.Remove())
	}
	return dir, tmp.Remove, nil
}

// fetchArchive extracts an archive into dir.
func fetchArchive(ctx context.Context, app *command.App, s kaniko.Source, tmp, dir string) error {
	const name = "context.tar"
	in, err := openArchive(ctx, app, s)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if err := spool(filepath.Join(tmp, name), in); err != nil {
		return err
	}
	from, err := view.Dir(tmp, view.DirOptions{})
	if err != nil {
		return err
	}
	files := view.NewOverlay(view.Empty())
	if err := files.Copy(ctx, from, name, "/", view.CopyOptions{AttemptUnpack: true, CreateDestPath: true, TempDir: tmp}); err != nil {
		return err
	}
	if list, err := files.ReadDir(ctx, "."); err == nil && len(list) == 1 && list[0].Path == name {
		return fmt.Errorf("%s is not an archive", describe(s))
	}
	return localdir.Write(ctx, files, dir, false)
}

func openArchive(ctx context.Context, app *command.App, s kaniko.Source) (io.ReadCloser, error) {
	switch s.Kind {
	case kaniko.Stdin:
		if f, ok := app.Stdin.(*os.File); ok {
			if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
				return nil, errors.New("no data found.. don't forget to add the '--interactive, -i' flag")
			}
		}
		return io.NopCloser(app.Input(ctx)), nil
	case kaniko.Download:
		return sources.Fetch(ctx, s.Place)
	}
	return os.Open(s.Place)
}

func describe(s kaniko.Source) string {
	if s.Kind == kaniko.Stdin {
		return "stdin"
	}
	return s.Place
}

// spool writes what arrives to a file, up to the limit of a context.
func spool(path string, in io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	limit, err := quota.New()
	if err == nil {
		_, err = io.Copy(f, limit.Receiver(in))
	}
	return errors.Join(err, f.Close())
}

// fetchRepository checks a commit out into dir.
func fetchRepository(ctx context.Context, app *command.App, s kaniko.Source, dir string) (err error) {
	f := &sources.Fetcher{Store: app.Store, Secret: func(context.Context, string) ([]byte, error) {
		if s.Header == "" {
			return nil, os.ErrNotExist
		}
		return []byte(s.Header), nil
	}}
	defer func() { err = errors.Join(err, f.Close()) }()
	identifier := "git://" + strings.SplitN(s.Place, "://", 2)[1]
	if s.Ref != "" {
		identifier += "#" + s.Ref
	}
	source, err := f.Open(identifier, map[string]string{
		pb.AttrFullRemoteURL: s.Place, pb.AttrAuthHeaderSecret: "kaniko", pb.AttrGitMTime: "commit",
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if _, err := source.Pin(ctx); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return source.Fetch(ctx, dir)
}

// subdirectory is a directory in a context, whose symlinks do not lead out of it.
func subdirectory(dir, sub string) (string, error) {
	if sub == "" {
		return dir, nil
	}
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fmt.Errorf("context-sub-path: %w", err)
	}
	at, err := filepath.EvalSymlinks(filepath.Join(root, sub))
	if err != nil {
		return "", fmt.Errorf("context-sub-path: %w", err)
	}
	if rel, err := filepath.Rel(root, at); err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("context-sub-path: %s is outside of the context", sub)
	}
	return at, nil
}

// findDockerfile returns a Dockerfile: a URL, a path, or else a path in the context.
func findDockerfile(dir, name string) (string, error) {
	if sources.IsWebURL(name) {
		return name, nil
	}
	for _, path := range []string{name, filepath.Join(dir, name)} {
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
	}
	return "", errors.New("error resolving dockerfile path: please provide a valid path to a Dockerfile within the build context with --dockerfile")
}
