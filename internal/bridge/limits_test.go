package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stuck is a client that solves until it is canceled.
type stuck struct {
	client.Client
	begun chan struct{}
}

func (s *stuck) Solve(ctx context.Context, _ client.SolveRequest) (*client.Result, error) {
	close(s.begun)
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// TestEnd: the end of a build ends the calls of its front end, and no others begin.
func TestEnd(t *testing.T) {
	t.Parallel()
	s := &stuck{begun: make(chan struct{})}
	b := New(s, nil, new(Kept))
	var running sync.WaitGroup
	running.Go(func() {
		_, err := b.Solve(context.Background(), &gwpb.SolveRequest{AllowResultReturn: true})
		if status.Code(err) != codes.Canceled {
			t.Errorf("a call that runs: %v", err)
		}
	})
	<-s.begun
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if _, err := b.Wait(ctx); !errors.Is(err, stop) {
		t.Errorf("wait: %v", err)
	}
	running.Wait()
	for name, call := range map[string]func() error{
		"solve": func() error {
			_, err := b.Solve(t.Context(), &gwpb.SolveRequest{AllowResultReturn: true})
			return err
		},
		"config": func() error {
			_, err := b.ResolveImageConfig(t.Context(), &gwpb.ResolveImageConfigRequest{})
			return err
		},
		"source": func() error {
			_, err := b.ResolveSourceMeta(t.Context(), &gwpb.ResolveSourceMetaRequest{Source: &pb.SourceOp{}})
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.Canceled {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
}

// TestReturnBeforeEnd: a front end that has returned has a result, even if its process has ended by the time that someone waits.
func TestReturnBeforeEnd(t *testing.T) {
	t.Parallel()
	for range 100 { // a select between the two would be random
		b := New(nil, nil, new(Kept))
		req := &gwpb.ReturnRequest{Result: &gwpb.Result{Metadata: map[string][]byte{"k": []byte("v")}}}
		if _, err := b.Return(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Return(t.Context(), req); err == nil {
			t.Fatal("it returned twice")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		res, err := b.Wait(ctx)
		if err != nil || string(res.Metadata["k"]) != "v" {
			t.Fatalf("%v, %v", res, err)
		}
	}
}

// TestBounds: what is kept of a front end until its build ends is bounded.
func TestBounds(t *testing.T) {
	t.Parallel()
	b := New(nil, nil, new(Kept))
	graph := &pb.Definition{Def: [][]byte{make([]byte, 1<<20)}}
	b.kept.bytes = maxKept - 1<<20
	if _, err := b.Solve(t.Context(), &gwpb.SolveRequest{AllowResultReturn: true, Definition: graph}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("graphs: %v", err)
	}
	b.kept.bytes = maxKept - callSize
	if _, err := b.Warn(t.Context(), &gwpb.WarnRequest{Short: []byte("w")}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("warnings: %v", err)
	}
	if _, err := b.ResolveImageConfig(t.Context(), &gwpb.ResolveImageConfigRequest{Ref: "r"}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("names of images: %v", err)
	}
	if _, err := b.ResolveSourceMeta(t.Context(), &gwpb.ResolveSourceMetaRequest{LogName: "r"}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("names of sources: %v", err)
	}
	for range maxRefs {
		if _, err := b.keep(ref{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.keep(ref{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("results: %v", err)
	}
	if kept, err := b.keep(nil); err != nil || kept.Id != "" {
		t.Errorf("the empty filesystem: %v, %v", kept, err)
	}
}

type ref struct{ client.Reference }

// TestOldFrontends: front ends that know no graphs of results get and return plain IDs.
func TestOldFrontends(t *testing.T) {
	t.Parallel()
	b := New(nil, nil, new(Kept))
	single, err := b.toPB(&client.Result{Ref: ref{}}, false)
	if err != nil || b.refs[single.GetRefDeprecated()] == nil {
		t.Errorf("one result: %v, %v", single, err)
	}
	several, err := b.toPB(&client.Result{Refs: map[string]client.Reference{"a": ref{}, "b": nil}}, false)
	ids := several.GetRefsDeprecated().GetRefs()
	if err != nil || b.refs[ids["a"]] == nil || len(ids) != 2 || ids["b"] != "" {
		t.Errorf("several: %v, %v", several, err)
	}
	for name, sent := range map[string]*gwpb.Result{"one": single, "several": several} {
		res, failure, err := b.fromPB(&gwpb.ReturnRequest{Result: sent})
		if err != nil || failure != nil || res.Ref == nil && res.Refs["a"] == nil {
			t.Errorf("%s: %v, %v, %v", name, res, failure, err)
		}
	}
}

// TestInvalidMessages: messages can lack what their types need not have.
func TestInvalidMessages(t *testing.T) {
	t.Parallel()
	b := New(nil, nil, new(Kept))
	for name, call := range map[string]func() error{
		"cache import": func() error {
			_, err := b.Solve(t.Context(), &gwpb.SolveRequest{AllowResultReturn: true, CacheImports: []*gwpb.CacheOptionsEntry{nil}})
			return err
		},
		"range": func() error {
			_, err := b.Warn(t.Context(), &gwpb.WarnRequest{Ranges: []*pb.Range{nil}})
			return err
		},
		"attestation": func() error {
			list := map[string]*gwpb.Attestations{"": {Attestation: []*gwpb.Attestation{nil}}}
			_, err := b.Return(t.Context(), &gwpb.ReturnRequest{Result: &gwpb.Result{Attestations: list}})
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStdio: a process that does not speak the protocol, or closes its output, ends the connection.
func TestStdio(t *testing.T) {
	t.Parallel()
	for name, speak := range map[string]func(s *Stdio){
		"garbage": func(s *Stdio) { _, _ = io.WriteString(s.Stdout, "HTTP/1.1 200 OK\r\n\r\n and so on") },
		"end":     func(s *Stdio) { _ = s.Stdout.Close() },
	} {
		s, err := NewStdio()
		if err != nil {
			t.Fatal(err)
		}
		speak(s)
		if err := New(nil, nil, new(Kept)).Serve(s.Conn()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
		if _, err := s.Stdin.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: the pipes are open", name)
		}
	}
}

// TestServeEnds: whoever closes the connection ends the server of one that nobody speaks on.
func TestServeEnds(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	var running sync.WaitGroup
	running.Go(func() {
		if err := New(nil, nil, new(Kept)).Serve(here); err != nil {
			t.Error(err)
		}
	})
	if err := there.Close(); err != nil {
		t.Error(err)
	}
	running.Wait()
}

// loud is a client whose warnings wait for the end of the build.
type loud struct {
	client.Client
	warned chan bool
}

func (l *loud) Warn(ctx context.Context, _ digest.Digest, _ string, _ client.WarnOpts) error {
	close(l.warned)
	<-ctx.Done()
	return context.Cause(ctx)
}

// TestLateWarning: a warning ends with the build, and none comes after it.
func TestLateWarning(t *testing.T) {
	t.Parallel()
	l, ended := &loud{warned: make(chan bool)}, make(chan error, 1)
	b := New(l, nil, new(Kept))
	go func() {
		_, err := b.Warn(context.Background(), &gwpb.WarnRequest{})
		ended <- err
	}()
	<-l.warned
	b.Close()
	if err := <-ended; !errors.Is(err, errEnded) {
		t.Errorf("a warning that waits: %v", err)
	}
	if _, err := b.Warn(t.Context(), &gwpb.WarnRequest{}); !errors.Is(err, errEnded) {
		t.Errorf("a warning after the end: %v", err)
	}
}
