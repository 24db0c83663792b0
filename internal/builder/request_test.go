package builder

import (
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
)

// asked is a request for the compiler with an option.
func asked(value string) client.SolveRequest {
	return client.SolveRequest{Frontend: dockerfileFrontend, FrontendOpt: map[string]string{"target": value}}
}

// graph is one that makes a file.
func graph(t *testing.T, name string) *pb.Definition {
	t.Helper()
	def, err := llb.Scratch().File(llb.Mkfile(name, 0o644, nil)).Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return def.ToPB()
}

// TestRequestsOfInputs: the request that has made an input is known while its build runs, if it is the only one.
func TestRequestsOfInputs(t *testing.T) {
	t.Parallel()
	made := NewRequests()
	one, other := newFrontend(t, nil, nil).containers.worker, newFrontend(t, nil, nil).containers.worker
	shared, alone := graph(t, "/shared"), graph(t, "/alone")
	by := func(value string) *request { return newRequest(asked(value), made) }
	made.add(&maker{one, shared, by("a")})
	made.add(&maker{other, shared, by("a")})
	made.add(&maker{one, alone, by("b")})
	made.add(&maker{one, graph(t, "/plain"), newRequest(client.SolveRequest{}, made)})
	inputs := map[string]*pb.Definition{"shared": shared, "alone": alone, "plain": graph(t, "/plain"), "unknown": graph(t, "/x"), "empty": {}}
	check := func(when string, want map[string]string) {
		t.Helper()
		got, _ := made.inputs(inputs)
		if len(got) != len(want) {
			t.Errorf("%s: %v", when, got)
		}
		for name, target := range want {
			if p := got[name]; p == nil || p.Request.Args["target"] != target || p.Request.Frontend != dockerfileFrontend {
				t.Errorf("%s: %s: %+v", when, name, p)
			}
		}
	}
	check("two equal requests", map[string]string{"shared": "a", "alone": "b"})
	made.add(&maker{other, shared, by("c")})
	check("two requests", map[string]string{"alone": "b"})
	made.forget(other)
	check("after one build", map[string]string{"shared": "a", "alone": "b"})
	made.forget(one)
	check("after both builds", nil)
}

// TestRequestsAreBounded: inputs of inputs of inputs do not make an endless description.
func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	made, w := NewRequests(), newFrontend(t, nil, nil).containers.worker
	def := graph(t, "/0")
	made.add(&maker{w, def, newRequest(asked(strings.Repeat("x", maxDescribed/8)), made)})
	var last *request
	for i := range 20 {
		req := asked("x")
		req.FrontendInputs = map[string]*pb.Definition{"a": def, "b": def}
		last = newRequest(req, made)
		def = graph(t, "/"+strings.Repeat("n", i+1))
		made.add(&maker{w, def, last})
		if last.size > maxDescribed {
			t.Fatalf("%d: %d bytes", i, last.size)
		}
	}
	if len(last.Inputs) == 2 {
		t.Error("the last has both inputs")
	}
}

// TestRootRequests: a front end that another one has asked for knows the request of the user, and what it solves is that of both.
func TestRootRequests(t *testing.T) {
	t.Parallel()
	silent, user := newRequest(client.SolveRequest{}, nil), newRequest(asked("user"), nil)
	first := silent.child(asked("first"), nil)
	second := first.child(asked("second"), nil)
	if first.root != nil || second.root != first || user.child(asked("a"), nil).child(asked("b"), nil).root != user {
		t.Errorf("%v %v", first.root, second.root)
	}
	client := newRequest(client.SolveRequest{FrontendOpt: map[string]string{"target": "x"}}, nil)
	if self, root := client.described(); self.Args != nil || root != nil {
		t.Errorf("%v %v", self, root)
	}
	if self, root := client.child(asked("a"), nil).described(); self.Args["target"] != "a" || root.Args["target"] != "x" {
		t.Errorf("%v %v", self, root)
	}
	result, other := graph(t, "/result"), graph(t, "/other")
	second.solved(result)
	second.solved(other)
	second.solved(other)
	for _, r := range []*request{second, first, silent} {
		if list := r.others(map[*pb.Definition]bool{result: true}); len(list) != 1 || list[0] != other {
			t.Errorf("%v", list)
		}
	}
}
