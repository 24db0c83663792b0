package control_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
)

// opened is the number of open files below a directory. Those that nothing refers to are closed by the collector.
func opened(t *testing.T, dir string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, e := range list {
		if name, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && strings.HasPrefix(name, dir+"/") {
			n++
		}
	}
	return n
}

// TestNothingIsKept: a server keeps neither files nor results of builds that have ended.
func TestNothingIsKept(t *testing.T) {
	s := start(t)
	dir := write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
	for range 3 {
		o := options(t, dir)
		o.Exports = []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: t.TempDir()}}
		_, err := s.build(t, o, func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
			return c.Solve(ctx, gwclient.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: c.BuildOpts().Opts})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		n := opened(t, s.store.Root())
		if n == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d files of builds that have ended are open", n)
		}
	}
}
