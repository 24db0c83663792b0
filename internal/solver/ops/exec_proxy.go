package ops

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/proxynet"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/sandbox"
)

// ProxyNetwork makes a proxy the only way out of processes.
type ProxyNetwork struct {
	// Policy decides about a source: what a process requests is one. It may replace its identifier.
	Policy func(ctx context.Context, op *pb.Op) error

	once      sync.Once
	authority *proxynet.Authority
	err       error
}

// start makes the authority of the build.
func (n *ProxyNetwork) start() (*proxynet.Authority, error) {
	n.once.Do(func() { n.authority, n.err = proxynet.NewAuthority() })
	return n.authority, n.err
}

// policy asks about a URL.
func (n *ProxyNetwork) policy(ctx context.Context, url string) (string, error) {
	source := &pb.SourceOp{Identifier: url}
	if err := n.Policy(ctx, &pb.Op{Op: &pb.Op_Source{Source: source}}); err != nil {
		return "", err
	}
	if len(source.Attrs) > 0 {
		return "", fmt.Errorf("the policy gives %s attributes, which a request cannot have", redact.URLs(url))
	}
	return source.Identifier, nil
}

// proxied reports whether the process has the proxy network.
func (o *execOp) proxied() bool { return o.w.Proxy != nil && o.op.Network != pb.NetMode_NONE }

// setNetwork gives the process its network. Under the proxy network, the host's network only means that its loopback can be reached.
func (o *execOp) setNetwork(p *sandbox.Process) error {
	if !o.proxied() {
		switch o.op.Network {
		case pb.NetMode_NONE:
			p.Network = sandbox.NetworkNone
		case pb.NetMode_UNSET:
			p.Network, p.NetworkMade = sandbox.NetworkOwn, o.reportNetwork
		}
		return nil
	}
	authority, err := o.w.Proxy.start()
	if err != nil {
		return err
	}
	o.capture = &proxynet.Capture{}
	o.w.mu.Lock()
	o.w.requests[o.t.Vertex.Digest] = o.capture
	o.w.mu.Unlock()
	proxy := &proxynet.Proxy{Authority: authority, Policy: o.w.Proxy.policy, Capture: o.capture, Loopback: o.op.Network == pb.NetMode_HOST}
	p.Network, p.Proxy, p.Authority = sandbox.NetworkProxy, proxy.Serve, authority.PEM()
	return nil
}

// ProxyEnv returns an environment in which programs find the proxy of the proxy network.
func ProxyEnv(env []string) []string {
	proxy := proxynet.Env(network.ProxyAddress)
	set := map[string]bool{}
	for _, kv := range proxy {
		name, _, _ := strings.Cut(kv, "=")
		set[name] = true
	}
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return set[name]
	})
	return append(env, proxy...)
}

// logRequests lists the requests of the process in its log, in BuildKit's words.
func (o *execOp) logRequests(log io.Writer) {
	if o.capture == nil {
		return
	}
	list := o.capture.Requests()
	if len(list) == 0 {
		return
	}
	var text strings.Builder
	text.WriteString("proxy network requests:\n")
	for _, r := range list {
		fmt.Fprintf(&text, "- %s %s -> %d\n", r.Method, r.URL, r.Status)
	}
	_, _ = io.WriteString(log, text.String())
}
