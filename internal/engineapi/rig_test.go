package engineapi

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"

	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/store"
)

// rig is a server of an empty store, and Docker's own client of it.
type rig struct {
	*client.Client
	t      *testing.T
	server *Server
	socket string
	closed chan struct{} // gets a value for each connection that the server closes
}

// wrapper is a listener whose connections are wrapped, as those of mica serve are.
type wrapper struct {
	net.Listener
	closed chan<- struct{}
}

func (w *wrapper) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &wrapped{c, sync.OnceFunc(func() { w.closed <- struct{}{} })}, nil
}

type wrapped struct {
	net.Conn
	closed func()
}

func (w *wrapped) NetConn() net.Conn { return w.Conn }

func (w *wrapped) Close() error {
	w.closed()
	return w.Conn.Close()
}

// TestMain runs what the tests start again in namespaces.
func TestMain(m *testing.M) {
	sandbox.Init(os.Args)
	os.Exit(m.Run())
}

func newRig(t *testing.T) *rig {
	t.Helper()
	root := filepath.Join(t.TempDir(), "store")
	opened, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	host, err := sandbox.NewHost(opened, "")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{
		Root: root, Registry: registry.Options{RegistriesConf: os.DevNull, UserAgent: "test", FirstWait: time.Millisecond}, Host: host,
	})
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), host.Close()); err != nil {
			t.Error(err)
		}
	})
	dir, err := os.MkdirTemp("", "m") // a socket has a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	web := httptest.NewUnstartedServer(s)
	if web.Listener, err = new(net.ListenConfig).Listen(t.Context(), "unix", socket); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, server: s, socket: socket, closed: make(chan struct{}, 1000)}
	web.Listener = &wrapper{web.Listener, r.closed}
	web.Start()
	t.Cleanup(web.Close)
	r.Client = r.speaking("")
	return r
}

// speaking returns a client of a version of the API, "" for the newest that both have.
func (r *rig) speaking(version string) *client.Client {
	r.t.Helper()
	opts := []client.Opt{client.WithHost("unix://" + r.socket)}
	if version != "" {
		opts = append(opts, client.WithAPIVersion(version))
	}
	c, err := client.New(opts...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// reply is the head of an answer.
type reply struct {
	StatusCode int
	Status     string
	Header     http.Header
}

// do sends a request, and returns the head and the body of the answer.
func (r *rig) do(method, path string, body io.Reader, header ...string) (reply, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://mica"+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.socket)
	}}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Status, resp.Header}, string(data)
}

// archive is a tar of files.
func archive(t *testing.T, files ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// image imports an image of one file with docker import, and returns its ID.
func (r *rig) image(content string, names ...string) string {
	r.t.Helper()
	resp, err := r.ImageImport(r.t.Context(), client.ImageImportSource{Source: bytes.NewReader(archive(r.t, "f", content)), SourceName: "-"}, names[0], client.ImageImportOptions{
		Changes: []string{"LABEL of=" + content}, Message: "made for a test",
	})
	if err != nil {
		r.t.Fatal(err)
	}
	messages := r.messages(resp)
	for _, n := range names[1:] {
		if _, err := r.ImageTag(r.t.Context(), client.ImageTagOptions{Source: names[0], Target: n}); err != nil {
			r.t.Fatal(err)
		}
	}
	return messages[len(messages)-1].Status
}

// messages reads a stream to its end.
func (r *rig) messages(body io.ReadCloser) (list []jsonstream.Message) {
	r.t.Helper()
	defer func() { _ = body.Close() }()
	dec := json.NewDecoder(body)
	for {
		var m jsonstream.Message
		err := dec.Decode(&m)
		if err == io.EOF {
			return list
		}
		if err != nil {
			r.t.Fatal(err)
		}
		list = append(list, m)
	}
}

// text joins what a stream shows.
func text(list []jsonstream.Message) string {
	var b strings.Builder
	for _, m := range list {
		b.WriteString(m.Stream)
		if m.Status != "" {
			b.WriteString(m.Status + "\n")
		}
		if m.Error != nil {
			b.WriteString("ERROR " + m.Error.Message + "\n")
		}
	}
	return b.String()
}

// said is the text of an error, "" for none.
func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
