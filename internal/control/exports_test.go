package control_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/exporter"
	"github.com/moby/buildkit/session/exporter/exporterprovider"
	"github.com/moby/buildkit/session/filesync"
)

// TestClientHasFile: a client that learns what the image is, and that it has it already, ends the export without an error.
func TestClientHasFile(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
	var mu sync.Mutex
	var learned string
	o.Exports = []client.ExportEntry{{Type: client.ExporterOCI, Output: func(meta map[string]string) (io.WriteCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		learned = meta["containerimage.digest"]
		return nil, nil
	}}}
	_, res, err := s.solve(t, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := res.ExporterResponse["containerimage.digest"]; want == "" || learned != want {
		t.Errorf("the client learns of %q, the image is %q", learned, want)
	}
}

// TestFinalizeExport: a client may act on the response before the build ends, and fail it.
func TestFinalizeExport(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, fails := range []string{"", "not today"} {
		o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
		o.EnableSessionExporter, o.Exports = true, []client.ExportEntry{{Type: client.ExporterImage, Attrs: map[string]string{"name": "app"}}}
		got := make(chan string, 1)
		o.Session = []session.Attachable{exporterprovider.New(nil, exporterprovider.WithFinalizeCallback(func(_ context.Context, response map[string]string) error {
			got <- response["image.name"]
			if fails != "" {
				return errors.New(fails)
			}
			return nil
		}))}
		_, _, err := s.solve(t, nil, o)
		if (err != nil) != (fails != "") || err != nil && !strings.Contains(err.Error(), fails) {
			t.Errorf("%q: %v", fails, err)
		}
		select {
		case name := <-got:
			if name != "docker.io/library/app:latest" {
				t.Errorf("%q: the name is %q", fails, name)
			}
		default:
			t.Errorf("%q: the client was not called", fails)
		}
	}
}

// naming is a client that names an exporter for the result of its build.
type naming struct {
	s           *server
	kind, fails string
	reads       bool
	listed      []string // the files of the result, as the client has read them
	file        sink
}

func (n *naming) name(ctx context.Context, _ map[string][]byte, refs []string) ([]*exporter.ExporterRequest, error) {
	if n.fails != "" {
		return nil, errors.New(n.fails)
	}
	if n.reads {
		resp, err := n.s.client.GatewayClientForBuild("naming").ReadDir(ctx, &gwpb.ReadDirRequest{Ref: refs[0], DirPath: "/"})
		if err != nil {
			return nil, err
		}
		for _, e := range resp.Entries {
			n.listed = append(n.listed, e.Path)
		}
	}
	if n.kind == "" {
		return nil, nil
	}
	return []*exporter.ExporterRequest{{Type: n.kind}}, nil
}

// TestSessionExporters: a client may name exporters when it knows the result, and read that. They come after those of the request.
func TestSessionExporters(t *testing.T) {
	t.Parallel()
	def, err := llb.Scratch().File(llb.Mkfile("/a", 0o644, nil)).Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files := &gateway.SolveRequest{Definition: def.ToPB()}
	for name, c := range map[string]struct {
		naming
		given bool                  // an exporter of the request
		solve *gateway.SolveRequest // of the client as the front end; nil for a Dockerfile
		files []string
		err   string
	}{
		"of the client's result":     {naming: naming{kind: client.ExporterTar, reads: true}, solve: files, files: []string{"a"}},
		"beside that of the request": {naming: naming{kind: client.ExporterTar, reads: true}, given: true, solve: files, files: []string{"a"}},
		"of an empty result":         {naming: naming{kind: client.ExporterTar}, solve: &gateway.SolveRequest{}},
		"of a Dockerfile":            {naming: naming{kind: client.ExporterTar}, files: []string{"Dockerfile"}},
		"none":                       {naming: naming{reads: true}, solve: files},
		"of an unknown type":         {naming: naming{kind: "cake"}, solve: files, err: `unknown output type "cake"`},
		"the client fails":           {naming: naming{fails: "not today"}, solve: files, err: "not today"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, n := start(t), &c.naming
			n.s = s
			o := options(t, write(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
			o.EnableSessionExporter, o.Ref = true, "naming"
			number := 0
			if c.given {
				o.Exports, number = []client.ExportEntry{{Type: client.ExporterImage, Attrs: map[string]string{"name": "app"}}}, 1
			}
			o.Session = []session.Attachable{exporterprovider.New(n.name), filesync.NewFSSyncTarget(filesync.WithFSSync(number, n.file.open))}
			var err error
			if c.solve == nil {
				_, _, err = s.solve(t, nil, o)
			} else {
				o.Frontend = ""
				_, err = s.client.Build(t.Context(), o, "", func(ctx context.Context, g gateway.Client) (*gateway.Result, error) { return g.Solve(ctx, *c.solve) }, nil)
			}
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("%v, want %q", err, c.err)
			}
			if c.err != "" {
				return
			}
			if r := s.record(t, "naming"); c.kind != "" && (len(r.Exporters) != number+1 || r.Exporters[number].Type != c.kind) {
				t.Errorf("the record has the exporters %v", r.Exporters)
			}
			if n.reads && len(n.listed) != 1 {
				t.Errorf("the client has read %q", n.listed)
			}
			if n.kind == "" {
				return
			}
			if diff := cmp.Diff(c.files, n.file.names(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
