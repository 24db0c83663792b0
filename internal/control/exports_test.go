package control_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/exporter/exporterprovider"
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
