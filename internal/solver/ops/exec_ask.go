package ops

import (
	"cmp"
	"context"
	"net"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/sshagent"
)

var _ solver.Asking = (*execOp)(nil)

// answers are what the client of a build has given to a step, by their IDs.
type answers struct {
	secrets map[string]secretAnswer
	agents  map[string]func(net.Conn) // nil for one that the client does not have
}

type secretAnswer struct {
	value []byte
	err   error
}

// wanted are the IDs of the secrets and agents of the process.
func (o *execOp) wanted() (secrets, agents []string) {
	for _, s := range o.op.Secretenv {
		secrets = append(secrets, s.GetID())
	}
	for _, m := range o.op.Mounts {
		switch m.MountType {
		case pb.MountType_SECRET:
			secrets = append(secrets, m.SecretOpt.ID)
		case pb.MountType_SSH:
			agents = append(agents, cmp.Or(m.SSHOpt.ID, sshagent.DefaultID))
		}
	}
	return secrets, agents
}

// Asks reports whether the process has secrets or agents.
func (o *execOp) Asks() bool {
	secrets, agents := o.wanted()
	return len(secrets)+len(agents) > 0
}

// Ask asks the client for all secrets and agents of the process, each once.
func (o *execOp) Ask(ctx context.Context) {
	secrets, agents := o.wanted()
	o.given = answers{map[string]secretAnswer{}, map[string]func(net.Conn){}}
	for _, id := range secrets {
		if _, ok := o.given.secrets[id]; !ok {
			value, err := o.w.Secret(ctx, id)
			o.given.secrets[id] = secretAnswer{value, err}
		}
	}
	for _, id := range agents {
		if _, ok := o.given.agents[id]; !ok {
			o.given.agents[id] = o.w.SSH(ctx, id)
		}
	}
}

// secret is a secret that Ask has got; that of a process that a user looks into is asked for now.
func (o *execOp) secret(ctx context.Context, id string) ([]byte, error) {
	if a, ok := o.given.secrets[id]; ok {
		return a.value, a.err
	}
	return o.w.Secret(ctx, id)
}

// agent is an agent, as secret is a secret.
func (o *execOp) agent(ctx context.Context, id string) func(net.Conn) {
	if serve, ok := o.given.agents[id]; ok {
		return serve
	}
	return o.w.SSH(ctx, id)
}
