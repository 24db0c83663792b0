package builder

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver/ops"
)

// Container is a root filesystem of a build, in which commands run as the processes of its steps do: with the mounts, environment, user,
// working directory, network and limits of the step. Nothing that they change there becomes a part of a layer.
type Container struct {
	Step   string   // the name of the step, as the progress shows it
	Before bool     // it is the state before a step that failed
	Caches []string // where cache mounts are: what is changed there remains

	host    *sandbox.Host
	process *sandbox.Process
	shells  [][]string
}

// Command is a command to run in a Container.
type Command struct {
	Line           string // as in a RUN instruction, "" for a shell
	TTY            bool
	Stdin          io.Reader // nil for none
	Stdout, Stderr io.Writer
}

// Run runs a command to its end. Its errors are those of [sandbox.Host.Run], and a [container.NoShellError].
func (c *Container) Run(ctx context.Context, cmd Command) error {
	p := *c.process
	p.Seal, p.TTY, p.Stdin, p.Stdout, p.Stderr = false, cmd.TTY, cmd.Stdin, cmd.Stdout, cmd.Stderr
	if cmd.TTY && !slices.ContainsFunc(p.Env, func(kv string) bool { return strings.HasPrefix(kv, "TERM=") }) {
		p.Env = append(slices.Clone(p.Env), "TERM=xterm") // as in docker run
	}
	return container.RunShell(ctx, c.host.Run, &p, c.shells, cmd.Line)
}

// inspectFailed gives OnFailure the state that a failed RUN has left, or the one before a COPY or ADD that failed. All other steps have ended.
func (b *Builder) inspectFailed(ctx context.Context, o *Options, w *ops.Worker, err error) {
	var failed *errdefs.VertexError
	if o.OnFailure == nil || !errors.As(err, &failed) || ctx.Err() != nil {
		return
	}
	if st := w.Failed(digest.Digest(failed.Digest)); st != nil {
		o.OnFailure(ctx, b.container(st), err)
		return
	}
	if line := failedCopy(err); line > 0 {
		b.inspectBefore(ctx, o, line, err)
	}
}

// failedCopy returns the line of a COPY or ADD that an error is about, 0 for another error.
func failedCopy(err error) int {
	for _, src := range errdefs.Sources(err) {
		if src.Info == nil || len(src.Ranges) == 0 {
			continue
		}
		if line := int(src.Ranges[0].Start.Line); dockerfile.Copies(src.Info.Data, line) {
			return line
		}
	}
	return 0
}

// inspectBefore gives OnFailure the state before an instruction that failed. The steps before it are cached.
func (b *Builder) inspectBefore(ctx context.Context, o *Options, line int, err error) {
	before := *o.trimmed()
	before.At, before.OnFailure, before.Events = strconv.Itoa(line), nil, nil
	before.Inspect = func(ctx context.Context, c *Container) error {
		c.Before = true
		o.OnFailure(ctx, c, err)
		return nil
	}
	// What ends this build would have ended the other one at the same place, which is to fail with its own error.
	_, _ = b.build(ctx, &before, nil, time.Time{}, nil)
}

// container is the state of a step as users see it.
func (b *Builder) container(st *ops.State) *Container {
	c := &Container{Step: st.Name, host: b.Host, process: st.Process, shells: container.Shells(st.Process.Args)}
	for _, m := range st.Process.Mounts {
		if m.Type == sandbox.MountBind && m.Shared && !m.ReadOnly {
			c.Caches = append(c.Caches, m.Target)
		}
	}
	return c
}
