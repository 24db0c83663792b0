package builder

import (
	"fmt"
	"path/filepath"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// The names under which the compiler asks for its local sources.
const (
	localContext    = "context"
	localDockerfile = "dockerfile"
	localArchive    = "archive"
)

// archiveName is how a context that is an archive is called inside its local source.
const archiveName = "context.tar"

// Context says where a build's files come from. One of Dir, Archive and Remote is set, or none for an empty context.
type Context struct {
	// Remote is the URL of a git repository, or of a file: an archive, or a Dockerfile.
	Remote string
	// Dir is a folder of the host.
	Dir string
	// Archive is the folder that holds a tar, plain or compressed, under the name context.tar.
	Archive string
	// Dockerfile is the path of the Dockerfile: on the host, or inside Archive. "" is Dockerfile in the context.
	Dockerfile string
	// Inline is the text of the Dockerfile itself, which then is looked for nowhere.
	Inline []byte
}

// SpoolName is the file inside the folder Archive that holds the archive.
func SpoolName(dir string) string { return filepath.Join(dir, archiveName) }

// filename is what the compiler calls the Dockerfile.
func (c *Context) filename() string {
	switch {
	case c.Inline != nil || c.Dockerfile == "":
		return ""
	case c.Archive != "" || c.Remote != "":
		return c.Dockerfile
	}
	_, name := dockerfileDir(c.Dockerfile)
	return name
}

func (c *Context) locals() map[string]solver.Local {
	dir := func(path string) solver.Local {
		return func(opt view.DirOptions) (view.View, error) { return view.Dir(path, opt) }
	}
	files := func(m map[string][]byte) solver.Local {
		return func(view.DirOptions) (view.View, error) { return view.Files(m), nil }
	}
	l := map[string]solver.Local{}
	switch {
	case c.Archive != "":
		l[localArchive] = dir(c.Archive)
	case c.Dir != "":
		l[localContext] = dir(c.Dir)
	default:
		l[localContext] = files(nil)
	}
	switch {
	case c.Inline != nil:
		l[localDockerfile] = files(map[string][]byte{"Dockerfile": c.Inline})
	case c.Dockerfile != "" && c.Archive == "" && c.Remote == "":
		folder, _ := dockerfileDir(c.Dockerfile)
		l[localDockerfile] = dir(folder)
	case c.Dir != "":
		l[localDockerfile] = dir(c.Dir)
	}
	return l
}

// inputs hands the compiler an archive as a filesystem made from it: BuildKit treats archives that come from afar so.
func (c *Context) inputs() map[string]llb.State {
	if c.Archive == "" {
		return nil
	}
	st := llb.Scratch().File(
		llb.Copy(llb.Local(localArchive), "/"+archiveName, "/", &llb.CopyInfo{AttemptUnpack: true}),
		llb.WithCustomName("[internal] load remote build context"),
	)
	in := map[string]llb.State{localContext: st}
	if c.Inline == nil {
		in[localDockerfile] = st
	}
	return in
}

// stateOf turns the inputs of a nested frontend request into states.
func stateOf(name string, def *pb.Definition) (llb.State, error) {
	op, err := llb.NewDefinitionOp(def)
	if err != nil {
		return llb.State{}, fmt.Errorf("build input %s: %w", name, err)
	}
	return llb.NewState(op), nil
}
