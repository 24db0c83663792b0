package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/sshagent"
)

// checkMount refuses what no front end should ask for.
func checkMount(m *pb.Mount) error {
	missing := false
	switch m.MountType {
	case pb.MountType_BIND, pb.MountType_TMPFS:
	case pb.MountType_CACHE:
		missing = m.CacheOpt == nil
	case pb.MountType_SECRET:
		missing = m.SecretOpt.GetID() == ""
	case pb.MountType_SSH:
		missing = m.SSHOpt == nil
	default:
		return fmt.Errorf("RUN --mount=type=%s is not supported", strings.ToLower(m.MountType.String()))
	}
	if missing {
		return fmt.Errorf("mount %s of type %s lacks its options", m.Dest, strings.ToLower(m.MountType.String()))
	}
	return nil
}

// addHostMount adds a mount of what the host gives and no layer keeps: memory, a secret, an agent.
func (o *execOp) addHostMount(ctx context.Context, p *sandbox.Process, m *pb.Mount) error {
	switch m.MountType {
	case pb.MountType_TMPFS:
		p.Mounts = append(p.Mounts, sandbox.Mount{
			Type: sandbox.MountTmpfs, Target: m.Dest, Size: m.TmpfsOpt.GetSize(), ReadOnly: m.Readonly,
		})
	case pb.MountType_SECRET:
		opt := m.SecretOpt
		data, err := getSecret(ctx, o.secret, opt.ID, opt.Optional)
		if err != nil || data == nil {
			return err
		}
		p.Mounts = append(p.Mounts, sandbox.Mount{
			Type: sandbox.MountSecret, Target: m.Dest, Data: data,
			Mode: os.FileMode(opt.Mode), UID: int(opt.Uid), GID: int(opt.Gid),
		})
	case pb.MountType_SSH:
		opt := m.SSHOpt
		id := cmp.Or(opt.ID, sshagent.DefaultID)
		serve := o.agent(ctx, id)
		if serve == nil {
			if opt.Optional {
				return nil
			}
			if o.w.ClientErrors {
				return fmt.Errorf("no SSH key %q forwarded from the client: unset ssh forward key %s", id, id)
			}
			return fmt.Errorf("no SSH key %q forwarded from the client: name it with --ssh", id)
		}
		p.Mounts = append(p.Mounts, sandbox.Mount{
			Type: sandbox.MountSocket, Target: m.Dest, Serve: serve,
			Mode: os.FileMode(opt.Mode), UID: int(opt.Uid), GID: int(opt.Gid),
		})
	}
	return nil
}

// SecretEnv are secrets as a process has them in its environment.
func (w *Worker) SecretEnv(ctx context.Context, secrets []*pb.SecretEnv) ([]string, error) {
	return secretEnv(ctx, w.Secret, secrets)
}

func secretEnv(ctx context.Context, get secretFunc, secrets []*pb.SecretEnv) ([]string, error) {
	var env []string
	for _, s := range secrets {
		data, err := getSecret(ctx, get, s.ID, s.Optional)
		if err != nil {
			return nil, err
		}
		// As in BuildKit: one that is missing is there, and empty.
		env = append(env, s.Name+"="+string(data))
	}
	return env, nil
}

// secretFunc returns the value of a secret by its ID, or fs.ErrNotExist.
type secretFunc func(ctx context.Context, id string) ([]byte, error)

// getSecret returns a secret, nil for one that is missing and may be.
func getSecret(ctx context.Context, get secretFunc, id string, optional bool) ([]byte, error) {
	data, err := get(ctx, id)
	switch {
	case errors.Is(err, fs.ErrNotExist) && optional:
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("secret %s: not found: give it with --secret id=%s", id, id)
	case err != nil:
		return nil, fmt.Errorf("secret %s: %w", id, err)
	case data == nil:
		data = []byte{}
	}
	return data, nil
}
