package ops

import (
	"context"
	"slices"
	"testing"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/sandbox"
)

// proxyWorker is a worker with the proxy network.
func proxyWorker(policy func(context.Context, *pb.Op) error) *Worker {
	return New(Options{Proxy: &ProxyNetwork{Policy: policy}})
}

func allowAll(context.Context, *pb.Op) error { return nil }

// TestProxiedProcess: a process that has a network has the proxy's, with its variables in place of the user's.
func TestProxiedProcess(t *testing.T) {
	t.Parallel()
	for mode, want := range map[pb.NetMode]sandbox.Network{
		pb.NetMode_UNSET: sandbox.NetworkProxy, pb.NetMode_HOST: sandbox.NetworkProxy, pb.NetMode_NONE: sandbox.NetworkNone,
	} {
		o := newExec(t, proxyWorker(allowAll), func(op *pb.ExecOp) {
			op.Network, op.Meta.Env, op.Meta.ProxyEnv = mode, []string{"http_proxy=http://image", "A=1"}, &pb.ProxyEnv{HttpsProxy: "http://user"}
		})
		p, err := o.process(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		proxied := want == sandbox.NetworkProxy
		if p.Network != want || (p.Proxy != nil) != proxied || (len(p.Authority) > 0) != proxied {
			t.Errorf("%s: network %d", mode, p.Network)
		}
		if slices.Contains(p.Env, "http_proxy=http://image") == proxied || slices.Contains(p.Env, "HTTPS_PROXY=http://user") == proxied || !slices.Contains(p.Env, "A=1") {
			t.Errorf("%s: environment %q", mode, p.Env)
		}
	}
	if _, err := newExecOp(proxyWorker(allowAll), execTask(func(op *pb.ExecOp) { op.Network = 77 })); err == nil {
		t.Error("an unknown network is allowed")
	}
}

// TestProxiedKey: a step with the proxy network is another one, and the same in each build.
func TestProxiedKey(t *testing.T) {
	t.Parallel()
	key := func(w *Worker, mode pb.NetMode) string {
		k, _, err := newExec(t, w, func(op *pb.ExecOp) { op.Network = mode }).Key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return k.Digest().String()
	}
	first := key(proxyWorker(allowAll), pb.NetMode_UNSET)
	if first != key(proxyWorker(nil), pb.NetMode_UNSET) {
		t.Error("the key differs between builds")
	}
	if first == key(New(Options{}), pb.NetMode_UNSET) {
		t.Error("a step with another network has the same key")
	}
	if key(proxyWorker(allowAll), pb.NetMode_NONE) != key(New(Options{}), pb.NetMode_NONE) {
		t.Error("a step without a network has another key")
	}
}

// TestProxyPolicy: a request is a source for the policy, which cannot give it attributes.
func TestProxyPolicy(t *testing.T) {
	t.Parallel()
	n := &ProxyNetwork{Policy: func(_ context.Context, op *pb.Op) error {
		source := op.GetSource()
		if source.Identifier == "http://attrs/" {
			source.Attrs = map[string]string{"http.checksum": "x"}
		}
		source.Identifier = "https://other/"
		return nil
	}}
	if got, err := n.policy(t.Context(), "http://host/"); err != nil || got != "https://other/" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := n.policy(t.Context(), "http://attrs/"); err == nil {
		t.Error("attributes are ignored")
	}
}
