package control_test

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
)

// TestOtherSession: a build may have directories of another session of its client, and then has none of its own.
func TestOtherSession(t *testing.T) {
	t.Parallel()
	s := start(t)
	o, out := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "1"})), t.TempDir()
	other, err := session.NewSession(t.Context(), "hint")
	if err != nil {
		t.Fatal(err)
	}
	other.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource(o.LocalMounts)))
	var running sync.WaitGroup
	running.Go(func() { _ = other.Run(t.Context(), s.client.Dialer()) })
	t.Cleanup(func() {
		_ = other.Close()
		running.Wait()
	})
	o.LocalMounts = nil
	o.FrontendAttrs["local-sessionid:context"], o.FrontendAttrs["local-sessionid:dockerfile"] = other.ID(), other.ID()
	o.Exports = []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: out}}
	if _, _, err := s.solve(t, nil, o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "1"}, list(t, out)); diff != "" {
		t.Error(diff)
	}
}

// TestTransferred: the progress shows how much of a directory the client has sent: nothing of what no step needs. A build that reads nothing of
// its context needs none.
func TestTransferred(t *testing.T) {
	t.Parallel()
	s := start(t)
	large := strings.Repeat("x", 1<<20)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=other small /\n"}))
	o.LocalMounts["other"] = options(t, write(t, map[string]string{"small": "abc", "large": large})).LocalMounts["context"]
	o.FrontendAttrs["context:other"] = "local:other"
	delete(o.LocalMounts, "context")
	o.Exports = []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: filepath.Join(t.TempDir(), "out")}}
	events, sent := make(chan *client.SolveStatus), map[string]int64{}
	var watching sync.WaitGroup
	watching.Go(func() {
		for st := range events {
			for _, v := range st.Statuses {
				if v.Name == "transferring" && v.Completed != nil {
					sent[v.ID] = v.Current
				}
			}
		}
	})
	_, err := s.client.Solve(t.Context(), nil, o, events)
	watching.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if n := sent["transferring other:"]; n < 3 || n > 1000 {
		t.Errorf("%v", sent)
	}
}
