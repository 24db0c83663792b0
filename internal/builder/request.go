package builder

import (
	"sync"

	"github.com/moby/buildkit/frontend/gateway/client"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/attest"
	"github.com/micabuild/mica/internal/solver/ops"
)

// request is what a front end was asked for, as provenance describes it, and what it has solved.
type request struct {
	attest.Request
	parent *request // of the front end that has asked for this one; nil for the whole build
	root   *request // of the whole build, or the first below it that says something; nil for these themselves
	size   int      // of the description of its inputs, in bytes

	mu     sync.Mutex
	graphs []*pb.Definition // that the front end, and those that it has asked for, have solved
}

// newRequest is the request of a whole build.
func newRequest(req client.SolveRequest, made *Requests) *request {
	r := &request{Request: attest.Request{Frontend: req.Frontend, Args: req.FrontendOpt}}
	r.Inputs, r.size = made.inputs(req.FrontendInputs)
	return r
}

// child is the request of a front end that another one has asked for.
func (r *request) child(req client.SolveRequest, made *Requests) *request {
	c := newRequest(req, made)
	c.parent = r
	switch {
	case r == nil:
	case r.root != nil:
		c.root = r.root
	case r.Frontend != "" || len(r.Args) > 0 || len(r.Inputs) > 0:
		c.root = r
	}
	return c
}

// described is the request as provenance has it, and that of the user. A client that is the front end itself was asked for nothing: what it was
// given is the request of the user for the front ends that it asks.
func (r *request) described() (self attest.Request, root *attest.Request) {
	if r.Frontend != "" {
		self = r.Request
	}
	if r.root != nil {
		root = &r.root.Request
	}
	return self, root
}

// solved notes that the front end has solved a graph.
func (r *request) solved(def *pb.Definition) {
	for ; r != nil; r = r.parent {
		r.mu.Lock()
		r.graphs = append(r.graphs, def)
		r.mu.Unlock()
	}
}

// others are the graphs that the front end has solved, without the results of the build.
func (r *request) others(results map[*pb.Definition]bool) (list []*pb.Definition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[*pb.Definition]bool{}
	for _, def := range r.graphs {
		if !results[def] && !seen[def] {
			seen[def] = true
			list = append(list, def)
		}
	}
	return list
}

// Limits on what is said of the inputs of front ends. Inputs may have inputs, and so on.
const (
	maxDescribed = 1 << 20 // bytes of one request
	maxMakers    = 64      // of one graph
)

// Requests are those of the front ends of all builds that run, by the graphs that they have solved: a graph may be the input of another front
// end, also in another build. It is safe for concurrent use.
type Requests struct {
	mu   sync.Mutex
	made map[digest.Digest]map[*request]*maker
}

// maker describes the request that has made a graph.
type maker struct {
	worker *ops.Worker // of its build
	def    *pb.Definition
	by     *request
}

// NewRequests returns Requests for the builds of one server.
func NewRequests() *Requests { return &Requests{made: map[digest.Digest]map[*request]*maker{}} }

// add notes the request of a front end that has solved a graph, until its build ends.
func (rs *Requests) add(m *maker) {
	head := headOf(m.def)
	if rs == nil || m.by == nil || m.by.Frontend == "" || head == "" {
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.made[head] == nil {
		rs.made[head] = map[*request]*maker{}
	}
	if rs.made[head][m.by] == nil {
		rs.made[head][m.by] = m
	}
}

// forget removes what the build of a worker has made.
func (rs *Requests) forget(w *ops.Worker) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for head, makers := range rs.made {
		for by, m := range makers {
			if m.worker == w {
				delete(makers, by)
			}
		}
		if len(makers) == 0 {
			delete(rs.made, head)
		}
	}
}

// inputs describes the requests that have made the inputs of a front end, and returns the size of the description. Those that nobody has made,
// and those that several have made in other ways, are left out.
func (rs *Requests) inputs(defs map[string]*pb.Definition) (all map[string]*provenancetypes.RequestProvenance, size int) {
	for name, def := range defs {
		p, n := rs.describe(headOf(def))
		if n += len(name); p == nil || size+n > maxDescribed {
			continue
		}
		if all == nil {
			all = map[string]*provenancetypes.RequestProvenance{}
		}
		all[name] = p
		size += n
	}
	return all, size
}

func (rs *Requests) describe(head digest.Digest) (found *provenancetypes.RequestProvenance, size int) {
	if rs == nil || head == "" {
		return nil, 0
	}
	rs.mu.Lock()
	var makers []*maker
	for _, m := range rs.made[head] {
		makers = append(makers, m)
	}
	rs.mu.Unlock()
	if len(makers) > maxMakers {
		return nil, 0
	}
	for _, m := range makers {
		p, err := attest.Describe(&attest.Build{Definition: m.def, Request: m.by.Request, Pin: pinOf(m.worker), Requested: requestedOf(m.worker)})
		if err != nil || found != nil && !found.Equal(p) {
			return nil, 0
		}
		found, size = p, m.by.size
		for k, v := range m.by.Args {
			size += len(k) + len(v)
		}
	}
	return found, size
}

// pinOf returns what the sources of a build resolved to.
func pinOf(w *ops.Worker) func(op digest.Digest) (attest.Pin, bool) {
	return func(op digest.Digest) (attest.Pin, bool) {
		is, ok := w.Pin(op)
		return attest.Pin{Digest: is.Digest, Commit: is.Object}, ok
	}
}

// requestedOf returns what processes have requested through the proxy network, nil for a build without one.
func requestedOf(w *ops.Worker) func(op digest.Digest) (attest.Requested, bool) {
	if w.Proxy == nil {
		return nil
	}
	return func(op digest.Digest) (r attest.Requested, ok bool) {
		c, ok := w.Requests(op)
		if !ok {
			return r, false
		}
		for _, m := range c.Materials() {
			r.Files = append(r.Files, provenancetypes.HTTPSource{URL: m.URL, Digest: m.Digest})
		}
		for _, g := range c.Gaps() {
			r.Gaps = append(r.Gaps, provenancetypes.ProxyCaptureIncomplete{Method: g.Method, URI: g.URL, Reason: g.Reason})
		}
		return r, true
	}
}

// headOf is the digest of the operation whose result is that of a graph, "" for a graph without one.
func headOf(def *pb.Definition) digest.Digest {
	op := &pb.Op{}
	if len(def.GetDef()) == 0 || op.UnmarshalVT(def.Def[len(def.Def)-1]) != nil || len(op.Inputs) == 0 {
		return ""
	}
	return digest.Digest(op.Inputs[0].Digest)
}
