package builder

import (
	"context"
	"errors"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/buildspec"
)

// TestOffline: a build with --network=none gives no network to the processes of any front end.
func TestOffline(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		network   string
		mode      pb.NetMode
		untrusted bool
		want      pb.NetMode
	}{
		"the default":                      {network: "none", want: pb.NetMode_NONE},
		"none":                             {network: "none", mode: pb.NetMode_NONE, want: pb.NetMode_NONE},
		"the host's that the user grants":  {network: "none", mode: pb.NetMode_HOST, want: pb.NetMode_HOST},
		"the host's for a front end":       {network: "none", mode: pb.NetMode_HOST, untrusted: true, want: pb.NetMode_NONE},
		"a build with a network":           {mode: pb.NetMode_UNSET, want: pb.NetMode_UNSET},
		"a front end with the host's, too": {mode: pb.NetMode_HOST, untrusted: true, want: pb.NetMode_HOST},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := llb.Scratch().Run(llb.Args([]string{"/x"}), llb.Network(c.mode)).Root()
			def, err := run.Marshal(t.Context(), llb.LinuxAmd64)
			if err != nil {
				t.Fatal(err)
			}
			front := func(ctx context.Context, cl client.Client) (*client.Result, error) {
				cl.(*frontend).untrusted = c.untrusted
				return cl.Solve(ctx, client.SolveRequest{Definition: def.ToPB(), Evaluate: true})
			}
			spec := buildspec.Spec{Network: c.network, Allow: []string{"network.host"}}
			_, err = newClient(t).Build(t.Context(), Options{Spec: spec, Context: ClientContext{}, Frontend: front})
			var failed *errdefs.OpError // scratch has no program
			if !errors.As(err, &failed) {
				t.Fatal(err)
			}
			if got := failed.Op.GetExec().Network; got != c.want {
				t.Errorf("network %s, want %s", got, c.want)
			}
		})
	}
}
