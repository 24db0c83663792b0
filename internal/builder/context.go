package builder

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/solver/ops"
	"github.com/micabuild/mica/internal/view"
)

// The names of the local sources that the compiler asks for.
const (
	localContext    = "context"
	localDockerfile = "dockerfile"
	localArchive    = "archive"
)

// archiveName is the name of a context that is an archive, in its local source.
const archiveName = "context.tar"

// Context holds the files of a build, its Dockerfile among them. See DirContext, ArchiveContext, RemoteContext, EmptyContext and
// InlineDockerfile.
type Context interface {
	// check finds mistakes before the build starts.
	check() error
	// options returns the options of the compiler for the context.
	options() map[string]string
	// locals returns the local sources that the compiler reads.
	locals() map[string]ops.Local
	// inputs returns states that the compiler uses in place of local sources.
	inputs() map[string]llb.State
}

// DirContext is a directory of the host.
type DirContext struct {
	Dir        string
	Dockerfile string // its path on the host, which need not be inside Dir; "" is Dockerfile in Dir
}

// check names a Dockerfile that does not exist as the user does. The compiler knows only the last part of its path.
func (c DirContext) check() error {
	name := c.path()
	_, err := os.Lstat(name)
	if dir, base := filepath.Split(name); err != nil && base == "Dockerfile" {
		if _, other := os.Lstat(filepath.Join(dir, "dockerfile")); other == nil {
			return nil
		}
	}
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return fmt.Errorf("failed to solve: failed to read dockerfile: open %s: %w", name, pathErr.Err)
	}
	return err
}

func (c DirContext) path() string {
	if c.Dockerfile == "" {
		return filepath.Join(c.Dir, "Dockerfile")
	}
	return c.Dockerfile
}

func (c DirContext) options() map[string]string {
	return map[string]string{"filename": filepath.Base(c.path())}
}

func (c DirContext) locals() map[string]ops.Local {
	return map[string]ops.Local{localContext: localDir(c.Dir), localDockerfile: localDir(filepath.Dir(c.path()))}
}

func (DirContext) inputs() map[string]llb.State { return nil }

// ArchiveContext is a tar, plain or compressed.
type ArchiveContext struct {
	Dir        string // the directory that holds the tar, under the name of SpoolName
	Dockerfile string // its path in the tar; "" is Dockerfile
}

// SpoolName is the path of the archive in the directory of an ArchiveContext.
func SpoolName(dir string) string { return filepath.Join(dir, archiveName) }

func (ArchiveContext) check() error { return nil }

func (c ArchiveContext) options() map[string]string { return filename(c.Dockerfile) }

func (c ArchiveContext) locals() map[string]ops.Local {
	return map[string]ops.Local{localArchive: localDir(c.Dir)}
}

// inputs give the compiler a filesystem that is made from the archive, as BuildKit does with archives that it downloads.
func (ArchiveContext) inputs() map[string]llb.State {
	st := llb.Scratch().File(
		llb.Copy(llb.Local(localArchive), "/"+archiveName, "/", &llb.CopyInfo{AttemptUnpack: true}),
		llb.WithCustomName("[internal] load remote build context"),
	)
	return map[string]llb.State{localContext: st, localDockerfile: st}
}

// RemoteContext is a git repository or a file, by its URL: the file is an archive or a Dockerfile.
type RemoteContext struct {
	URL        string
	Dockerfile string // its path in the repository or archive; "" is Dockerfile
}

func (RemoteContext) check() error { return nil }

func (c RemoteContext) options() map[string]string {
	opts := filename(c.Dockerfile)
	opts["context"] = c.URL
	return opts
}

func (RemoteContext) locals() map[string]ops.Local {
	return map[string]ops.Local{localContext: localFiles(nil)}
}

func (RemoteContext) inputs() map[string]llb.State { return nil }

// EmptyContext has no files, and so needs an InlineDockerfile.
type EmptyContext struct{}

func (EmptyContext) check() error { return nil }

func (EmptyContext) options() map[string]string { return map[string]string{} }

func (EmptyContext) locals() map[string]ops.Local {
	return map[string]ops.Local{localContext: localFiles(nil)}
}

func (EmptyContext) inputs() map[string]llb.State { return nil }

// InlineDockerfile is a context with another Dockerfile, given by its text.
type InlineDockerfile struct {
	Context
	Text []byte
}

func (InlineDockerfile) check() error { return nil }

func (c InlineDockerfile) options() map[string]string {
	opts := maps.Clone(c.Context.options())
	delete(opts, "filename")
	if _, ok := opts["context"]; ok {
		opts["dockerfilekey"] = localDockerfile // else the compiler looks in the context that it downloads
	}
	return opts
}

func (c InlineDockerfile) locals() map[string]ops.Local {
	l := c.Context.locals()
	l[localDockerfile] = localFiles(map[string][]byte{"Dockerfile": c.Text})
	return l
}

func (c InlineDockerfile) inputs() map[string]llb.State {
	in := c.Context.inputs()
	delete(in, localDockerfile)
	return in
}

// filename is the option that names a Dockerfile, which is left out where it is the default.
func filename(dockerfile string) map[string]string {
	if dockerfile == "" {
		return map[string]string{}
	}
	return map[string]string{"filename": dockerfile}
}

func localDir(path string) ops.Local {
	return func(opt view.DirOptions) (view.View, error) { return view.Dir(path, opt) }
}

func localFiles(files map[string][]byte) ops.Local {
	return func(view.DirOptions) (view.View, error) { return view.Files(files), nil }
}

// stateOf turns the inputs of a nested frontend request into states.
func stateOf(name string, def *pb.Definition) (llb.State, error) {
	op, err := llb.NewDefinitionOp(def)
	if err != nil {
		return llb.State{}, fmt.Errorf("build input %s: %w", name, err)
	}
	return llb.NewState(op), nil
}
