//go:build e2e

package parity

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/tonistiigi/fsutil"
)

// ask has BuildKit's front end answer a call, as buildx does: buildctl has no way to.
func (c *testCase) ask(t *testing.T) []byte {
	t.Helper()
	request := "frontend." + c.Call
	if c.Call == "check" {
		request = "frontend.lint"
	}
	k, err := client.New(t.Context(), peer.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = k.Close() }()
	dir, err := fsutil.NewFS(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	opt := client.SolveOpt{LocalMounts: map[string]fsutil.FS{"context": dir, "dockerfile": dir}}
	var answer []byte
	_, err = k.Build(t.Context(), opt, "", func(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
		res, err := g.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{
			"requestid": request, "frontend.caps": "moby.buildkit.frontend.subrequests", "filename": filepath.Base(c.Dockerfile),
			"context:base": "docker-image://" + peer.registry.Addr + "/base:latest",
		}})
		if err == nil {
			answer = res.Metadata["result.json"]
		}
		return res, err
	}, nil)
	if err != nil {
		t.Fatalf("buildkit: %v", err)
	}
	return answer
}
