package control_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/session"
	sessioncontent "github.com/moby/buildkit/session/content"
	"github.com/moby/buildkit/session/filesync"
)

// session opens a session beside that of a build.
func (s *server) session(t *testing.T, has session.Attachable) *session.Session {
	t.Helper()
	other, err := session.NewSession(t.Context(), "hint")
	if err != nil {
		t.Fatal(err)
	}
	other.Allow(has)
	var running sync.WaitGroup
	running.Go(func() { _ = other.Run(t.Context(), s.client.Dialer()) })
	t.Cleanup(func() {
		_ = other.Close()
		running.Wait()
	})
	return other
}

// TestOtherSession: a build may have directories of another session of its client, and then has none of its own.
func TestOtherSession(t *testing.T) {
	t.Parallel()
	s := start(t)
	o, out := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "1"})), t.TempDir()
	other := s.session(t, filesync.NewFSSyncProvider(filesync.StaticDirSource(o.LocalMounts)))
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

// TestStoreOfOtherSession: an OCI layout may be that of another session of the client.
func TestStoreOfOtherSession(t *testing.T) {
	t.Parallel()
	s := start(t)
	layout := t.TempDir()
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "1"}))
	o.Exports = []client.ExportEntry{{Type: client.ExporterOCI, Attrs: map[string]string{"tar": "false"}, OutputDir: layout}}
	_, res, err := s.solve(t, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	store, err := local.NewStore(layout)
	if err != nil {
		t.Fatal(err)
	}
	other := s.session(t, sessioncontent.NewAttachable(map[string]content.Store{"oci:theirs": store}))
	base := llb.OCILayout("any/name@"+res.ExporterResponse["containerimage.digest"], llb.OCIStore(other.ID(), "theirs"))
	def, err := base.File(llb.Mkfile("/b", 0o644, nil)).Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var files sink
	o = client.SolveOpt{Exports: []client.ExportEntry{{Type: client.ExporterTar, Output: files.open}}}
	if _, err := s.client.Solve(t.Context(), def, o, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, files.names(t)); diff != "" {
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
	sent := s.sent(t, o)
	if n := sent["transferring other:"]; n < 3 || n > 1000 {
		t.Errorf("%v", sent)
	}
}

// sent builds, and returns how many bytes of each directory the client has sent.
func (s *server) sent(t *testing.T, o client.SolveOpt) map[string]int64 {
	t.Helper()
	events, sent := make(chan *client.SolveStatus), map[string]int64{}
	var watching sync.WaitGroup
	watching.Go(func() {
		for st := range events {
			for _, v := range st.Statuses {
				if strings.HasPrefix(v.ID, "transferring") && v.Completed != nil {
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
	return sent
}

// TestDescribedDirectory: of a directory whose metadata is asked for, only the files that match are sent, with their directories.
func TestDescribedDirectory(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		option llb.LocalOption
		want   []string
		err    string
	}{
		"all":             {option: llb.SharedKeyHint("x"), want: []string{"a", "b", "link"}},
		"metadata":        {option: llb.MetadataOnlyTransfer(nil), want: []string{".fsutil-metadata"}},
		"some":            {option: llb.MetadataOnlyTransfer([]string{"a"}), want: []string{".fsutil-metadata", "a"}},
		"an invalid list": {option: describedList("{"), err: "local source context: attribute local.metadatatransferexclude"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			dir := write(t, map[string]string{"a": "1", "b": "2", ".fsutil-metadata": "not this"})
			if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			def, err := llb.Local("context", c.option).Marshal(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			o := options(t, dir)
			o.Frontend, o.FrontendAttrs = "", nil
			var files sink
			o.Exports = []client.ExportEntry{{Type: client.ExporterTar, Output: files.open}}
			for range 2 { // the second finds the directory of the first
				files.Reset()
				_, err = s.client.Solve(t.Context(), def, o, nil)
				if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%v, want %q", err, c.err)
				}
				if err != nil {
					return
				}
				got := files.names(t)
				if name == "all" {
					got = slices.DeleteFunc(got, func(n string) bool { return n == ".fsutil-metadata" })
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// describedList asks for the metadata of all files, and for the content of a list of them that need not be valid.
type describedList string

func (d describedList) SetLocalOption(info *llb.LocalInfo) {
	info.MetadataOnlyCollector, info.MetadataOnlyExceptions = true, string(d)
}
