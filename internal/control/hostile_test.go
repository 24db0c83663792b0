package control_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/micabuild/mica/internal/quota"
)

// endless is a file without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
func (endless) Close() error               { return nil }

// falseFiles is a directory that has as many files as wanted, each of a size that is said, and of endless content.
type falseFiles struct {
	number int
	size   int64
}

func (f falseFiles) Walk(ctx context.Context, dir string, walk fs.WalkDirFunc) error {
	if strings.Trim(dir, "./") != "" {
		return fs.ErrNotExist
	}
	for i := range f.number {
		st := &types.Stat{Path: fmt.Sprintf("file%09d", i), Mode: 0o644, Size: f.size}
		if err := errors.Join(ctx.Err(), walk(st.Path, &fsutil.DirEntryInfo{Stat: st}, nil)); err != nil {
			return err
		}
	}
	return nil
}

func (falseFiles) Open(string) (io.ReadCloser, error) { return endless{}, nil }

// builds reports whether a client that does no harm is served.
func (s *server) builds(t *testing.T) {
	t.Helper()
	if _, _, err := s.solve(t, nil, options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))); err != nil {
		t.Errorf("another client: %v", err)
	}
}

// TestContextLimits: a client that sends without an end is stopped, whatever it says beforehand.
func TestContextLimits(t *testing.T) {
	t.Setenv(quota.Setting, "1m")
	const exceeded = "it has more than 1MiB, the limit of a context: set MICA_MAX_UNPACKED_SIZE"
	s := start(t)
	dockerfile := write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n"})
	for name, files := range map[string]falseFiles{
		"a file without an end": {1, 10},
		"files that are large":  {3, 500 << 10},
		"a negative size":       {1, -5},
		"many files":            {100_000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, dockerfile)
			o.LocalMounts["context"] = files
			if _, _, err := s.solve(t, nil, o); err == nil || !strings.Contains(err.Error(), exceeded) {
				t.Errorf("%v", err)
			}
			s.builds(t)
		})
	}
	t.Run("an upload without an end", func(t *testing.T) {
		o, up := options(t, dockerfile), uploadprovider.New()
		o.FrontendAttrs["context"] = up.Add(endless{})
		o.Session = []session.Attachable{up}
		if _, _, err := s.solve(t, nil, o); err == nil || !strings.Contains(err.Error(), exceeded) {
			t.Errorf("%v", err)
		}
		s.builds(t)
	})
}

// TestSessionEnds: a build whose session ends is canceled, though its client waits for it.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	s := start(t)
	begun, gone := make(chan bool, 1), make(chan bool, 1)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		begun <- true
		<-r.Context().Done()
		gone <- true
	}))
	defer silent.Close()
	def, err := llb.HTTP(silent.URL).Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sess, err := session.NewSession(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = sess.Run(t.Context(), s.client.Dialer()) })
	ended := make(chan error, 1)
	go func() {
		req := &controlapi.SolveRequest{Ref: "left", Session: sess.ID(), Definition: def.ToPB()}
		_, err := s.client.ControlClient().Solve(t.Context(), req)
		ended <- err
	}()
	<-begun
	if err := sess.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	<-gone
	running.Wait()
	if r := s.record(t, "left"); codes.Code(r.Error.GetCode()) != codes.Canceled {
		t.Errorf("the history has %v", r.Error)
	}
}

// TestHalfOpenSessions: sessions that never answer, and builds that name them, keep nobody else from building.
func TestHalfOpenSessions(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 20 {
		id := identity.NewID()
		md := metadata.Pairs("x-docker-expose-session-uuid", id, "x-docker-expose-session-grpc-method", "/moby.filesync.v1.FileSync/DiffCopy")
		if _, err := s.client.ControlClient().Session(metadata.NewOutgoingContext(ctx, md)); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = s.client.ControlClient().Solve(ctx, &controlapi.SolveRequest{Ref: identity.NewID(), Session: id, Frontend: "dockerfile.v0"})
		}()
	}
	s.builds(t)
}

// TestSlowReaders: clients that ask and do not read keep nobody else from building.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := client.New(ctx, s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	s.builds(t) // there is a history to send
	for range 50 {
		if _, err := c.ControlClient().ListenBuildHistory(ctx, &controlapi.BuildHistoryRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ControlClient().Status(ctx, &controlapi.StatusRequest{Ref: "none"}); err != nil {
			t.Fatal(err)
		}
	}
	s.builds(t)
}
