package ops

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/sandbox"
)

// TestAsk: what a process gets of the client is asked for once, before it runs, whether the client has it or not.
func TestAsk(t *testing.T) {
	t.Parallel()
	var asked []string
	w := New(Options{
		Secret: func(_ context.Context, id string) ([]byte, error) {
			asked = append(asked, id)
			return []byte("v"), map[string]error{"bad": errors.New("a fault")}[id]
		},
		SSH: func(_ context.Context, id string) func(net.Conn) {
			asked = append(asked, id)
			return nil
		},
	})
	secret, bad := &pb.SecretOpt{ID: "value"}, &pb.SecretOpt{ID: "bad"}
	o := &execOp{w: w, op: &pb.ExecOp{
		Secretenv: []*pb.SecretEnv{{ID: "value", Name: "V"}},
		Mounts: []*pb.Mount{
			{MountType: pb.MountType_SECRET, Dest: "/s", SecretOpt: secret}, {MountType: pb.MountType_SECRET, Dest: "/b", SecretOpt: bad},
			{MountType: pb.MountType_SSH, Dest: "/a", SSHOpt: &pb.SSHOpt{}},
		},
	}}
	if !o.Asks() || (&execOp{w: w, op: &pb.ExecOp{Mounts: []*pb.Mount{{}}}}).Asks() {
		t.Error("what processes ask for is not known")
	}
	o.Ask(t.Context())
	p := &sandbox.Process{}
	for i, want := range []string{"", "secret bad: a fault", `no SSH key "default" forwarded from the client: name it with --ssh`} {
		if err := o.addHostMount(t.Context(), p, o.op.Mounts[i]); text(err) != want {
			t.Errorf("mount %d: %v", i, err)
		}
	}
	env, err := secretEnv(t.Context(), o.secret, o.op.Secretenv)
	if err != nil || !slices.Equal(env, []string{"V=v"}) {
		t.Errorf("environment %v, %v", env, err)
	}
	if !slices.Equal(asked, []string{"value", "bad", "default"}) {
		t.Errorf("asked for %v", asked)
	}
}
