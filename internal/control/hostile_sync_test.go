package control_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"github.com/tonistiigi/fsutil/types"
	"google.golang.org/grpc"
)

// liar sends a directory as it likes: it describes any files in any order, and answers a question for a file with any content.
type liar struct {
	filesync.UnimplementedFileSyncServer
	stats   []*types.Stat
	content map[string]string // by path; a file that is not in it is never sent
	stray   bool              // the content of a file that nobody asked for is sent
	asked   []string
}

func (l *liar) Register(s *grpc.Server) { filesync.RegisterFileSyncServer(s, l) }

func (l *liar) DiffCopy(stream filesync.FileSync_DiffCopyServer) error {
	for _, st := range l.stats {
		if err := stream.Send(&types.Packet{Type: types.PACKET_STAT, Stat: st}); err != nil {
			return err
		}
	}
	if l.stray {
		if err := stream.Send(&types.Packet{Type: types.PACKET_DATA, ID: 999, Data: []byte("stray")}); err != nil {
			return err
		}
	}
	if err := stream.Send(&types.Packet{Type: types.PACKET_STAT}); err != nil {
		return err
	}
	for {
		p, err := stream.Recv()
		switch {
		case err != nil:
			return err
		case p.Type == types.PACKET_ERR:
			return errors.New(string(p.Data))
		case p.Type == types.PACKET_FIN:
			return stream.Send(&types.Packet{Type: types.PACKET_FIN})
		case p.Type != types.PACKET_REQ:
			continue
		}
		path := l.stats[p.ID].Path
		l.asked = append(l.asked, path)
		text, ok := l.content[path]
		if !ok {
			return errors.New(path + " is not there")
		}
		if text != "" {
			err = stream.Send(&types.Packet{Type: types.PACKET_DATA, ID: p.ID, Data: []byte(text)})
		}
		if err := errors.Join(err, stream.Send(&types.Packet{Type: types.PACKET_DATA, ID: p.ID})); err != nil {
			return err
		}
	}
}

// receive builds the directory of a client with a key, and returns the files.
func (s *server) receive(t *testing.T, key string, has session.Attachable, options ...llb.LocalOption) (map[string]string, error) {
	t.Helper()
	def, err := llb.Scratch().File(llb.Copy(llb.Local("context", options...), "/", "/", &llb.CopyInfo{CopyDirContentsOnly: true})).Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	_, err = s.client.Build(t.Context(), client.SolveOpt{
		SharedKey: key, Session: []session.Attachable{has}, Exports: []client.ExportEntry{{Type: client.ExporterLocal, OutputDir: out}},
	}, "", func(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
		return g.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	}, nil)
	return contents(t, out), err
}

// contents are the regular files below a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func regular(path string, size int64) *types.Stat {
	return &types.Stat{Path: path, Mode: 0o644, Size: size, ModTime: 1_700_000_000_123_456_789}
}

// TestLyingClients: what a client says of its files leaves no directory, and gives it no file that it has not sent. Its next build is whole.
func TestLyingClients(t *testing.T) {
	t.Parallel()
	s := start(t)
	outside := write(t, map[string]string{"secret": "secret"})
	dir := func(path string) *types.Stat { return &types.Stat{Path: path, Mode: uint32(os.ModeDir) | 0o755} }
	link := func(path, to string) *types.Stat {
		return &types.Stat{Path: path, Mode: uint32(os.ModeSymlink) | 0o777, Linkname: to}
	}
	hard := func(path, to string) *types.Stat {
		return &types.Stat{Path: path, Mode: 0o644, Size: 6, Linkname: to}
	}
	up := strings.Repeat("../", 20)
	honest := &liar{stats: []*types.Stat{dir("d"), regular("d/x", 1), regular("f", 6)}, content: map[string]string{"d/x": "1", "f": "honest"}}
	whole := map[string]string{"d/x": "1", "f": "honest"}
	for name, lie := range map[string]*liar{
		"a file that is never sent":    {stats: []*types.Stat{regular("f", 6)}},
		"a path twice":                 {stats: []*types.Stat{regular("f", 6), regular("f", 6)}, content: map[string]string{"f": "twofold"}},
		"a path above":                 {stats: []*types.Stat{regular("../secret", 6)}, content: map[string]string{"../secret": "broken"}},
		"a path far above":             {stats: []*types.Stat{regular(up+outside+"/secret", 6)}, content: map[string]string{up + outside + "/secret": "broken"}},
		"an absolute path":             {stats: []*types.Stat{regular(outside+"/secret", 6)}, content: map[string]string{outside + "/secret": "broken"}},
		"the directory itself":         {stats: []*types.Stat{link(".", outside), regular("secret", 6)}, content: map[string]string{"secret": "broken"}},
		"a path with dots":             {stats: []*types.Stat{dir("d"), regular("d/../../secret", 6)}, content: map[string]string{"d/../../secret": "broken"}},
		"no path":                      {stats: []*types.Stat{regular("", 6)}, content: map[string]string{"": "broken"}},
		"a file below a link":          {stats: []*types.Stat{link("d", outside), regular("d/secret", 6)}, content: map[string]string{"d/secret": "broken"}},
		"a file below a link to links": {stats: []*types.Stat{link("a", "b"), link("b", outside), regular("b/secret", 6)}, content: map[string]string{"b/secret": "broken"}},
		"a hard link above":            {stats: []*types.Stat{hard("h", up+outside+"/secret")}},
		"a hard link through a link":   {stats: []*types.Stat{link("a", outside), hard("h", "a/secret")}},
		"a file without its directory": {stats: []*types.Stat{regular("e/f", 6)}, content: map[string]string{"e/f": "orphan"}},
		"what nobody asked for":        {stats: []*types.Stat{regular("f", 6)}, content: map[string]string{"f": "honest"}, stray: true},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := s.receive(t, name, honest); err != nil || !maps.Equal(got, whole) {
				t.Fatalf("%v, %v", got, err)
			}
			lie.stats[0].ModTime++ // it has changed
			if got, err := s.receive(t, name, lie); err == nil {
				t.Errorf("no error: %v", got)
			}
			if got, err := s.receive(t, name, honest); err != nil || !maps.Equal(got, whole) {
				t.Errorf("the next build: %v, %v", got, err)
			}
		})
	}
	if got := contents(t, outside); !maps.Equal(got, map[string]string{"secret": "secret"}) {
		t.Errorf("the directory outside has %v", got)
	}
}

// TestReplacedByLinks: a directory that a client has replaced by a link, and a link by a directory, is what the client says, and never what the
// link names on the host.
func TestReplacedByLinks(t *testing.T) {
	t.Parallel()
	s := start(t)
	outside := write(t, map[string]string{"secret": "secret"})
	tree := &liar{
		stats:   []*types.Stat{{Path: "d", Mode: uint32(os.ModeDir) | 0o755}, regular("d/secret", 4)},
		content: map[string]string{"d/secret": "mine"},
	}
	linked := &liar{stats: []*types.Stat{{Path: "d", Mode: uint32(os.ModeSymlink) | 0o777, Linkname: outside}}}
	for i, has := range []*liar{linked, tree, linked, tree} {
		got, err := s.receive(t, "key", has)
		if err != nil || has == tree && got["d/secret"] != "mine" {
			t.Errorf("%d: %v, %v", i, got, err)
		}
	}
	if got := contents(t, outside); !maps.Equal(got, map[string]string{"secret": "secret"}) {
		t.Errorf("the directory outside has %v", got)
	}
}

// TestLinkInPlaceOfDescribed: a directory of which the metadata is sent is not replaced by a link, through which the next files would be written.
func TestLinkInPlaceOfDescribed(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, path := range []string{".", ".."} {
		outside := write(t, map[string]string{"secret": "secret"})
		link := &types.Stat{Path: path, Mode: uint32(os.ModeSymlink) | 0o777, Linkname: outside}
		for _, has := range []*liar{{stats: []*types.Stat{link}}, {stats: []*types.Stat{regular("f", 6)}, content: map[string]string{"f": "broken"}}} {
			_, err := s.receive(t, "key", has, llb.MetadataOnlyTransfer([]string{".", "..", "f"}))
			if has.content == nil && err == nil {
				t.Errorf("%s: no error", path)
			}
		}
		if got := contents(t, outside); !maps.Equal(got, map[string]string{"secret": "secret"}) {
			t.Errorf("%s: the directory outside has %v", path, got)
		}
	}
}

// TestUnsentFile: a client gets no file of another one by its name, size and time: with another key it is asked for the file, and what it
// sends counts, not what it says.
func TestUnsentFile(t *testing.T) {
	t.Parallel()
	s := start(t)
	victim := &liar{stats: []*types.Stat{regular("f", 6)}, content: map[string]string{"f": "secret"}}
	if got, err := s.receive(t, "victim", victim); err != nil || got["f"] != "secret" {
		t.Fatalf("%v, %v", got, err)
	}
	thief := &liar{stats: []*types.Stat{regular("f", 6)}, content: map[string]string{"f": ""}}
	if got, err := s.receive(t, "thief", thief); err == nil && got["f"] != "" || len(thief.asked) != 1 {
		t.Errorf("%v, %v, asked for %q", got, err, thief.asked)
	}
	if got, err := s.receive(t, "victim", victim); err != nil || got["f"] != "secret" || len(victim.asked) != 1 {
		t.Errorf("the file that was sent before: %v, %v, asked for %q", got, err, victim.asked)
	}
}
