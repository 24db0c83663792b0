package registry_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// uploads are faults that a push recovers from, and those that it does not.
var uploads = map[string]struct {
	choose func(registrytest.Request) registrytest.Fault
	want   string // of the error; "" for none
}{
	"good":                   {nil, ""},
	"begin: connection lost": {registrytest.On("POST", registrytest.Upload, 1, 2, registrytest.Hangup), ""},
	"begin: 500":             {registrytest.On("POST", registrytest.Upload, 1, 2, registrytest.Status(500)), ""},
	"begin: always 500":      {registrytest.On("POST", registrytest.Upload, 1, 0, registrytest.Status(500)), "500"},
	"begin: denied":          {registrytest.On("POST", registrytest.Upload, 1, 0, registrytest.Status(403)), "403"},
	"begin: no location":     {registrytest.On("POST", registrytest.Upload, 1, 0, registrytest.Status(202)), "where to upload"},
	"begin: not supported":   {registrytest.On("POST", registrytest.Upload, 1, 0, registrytest.Status(405)), "405"},
	"send: cut":              {registrytest.Sending(1, 2, registrytest.CutUpload(1000)), ""},
	"send: always cut":       {registrytest.Sending(1, 0, registrytest.CutUpload(1000)), "EOF|reset|pipe|broke|closed"},
	"send: 503":              {registrytest.Sending(1, 1, registrytest.Status(503)), ""},
	"send: always 503":       {registrytest.Sending(1, 0, registrytest.Status(503)), "503"},
	"send: upload is gone":   {registrytest.Sending(1, 1, registrytest.Status(404)), ""},
	"send: refused":          {registrytest.Sending(1, 0, registrytest.Status(413)), "413"},
	"send: response lost":    {registrytest.Sending(1, 1, registrytest.Lost), ""},
	"send: redirected":       {registrytest.Sending(1, 0, again), "moves the upload again and again"},
}

// again redirects an upload to where it is.
func again(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	w.Header().Set("Location", r.URL.Path)
	w.WriteHeader(http.StatusTemporaryRedirect)
}

func TestPushBlob(t *testing.T) {
	t.Parallel()
	data := registrytest.Noise(300_000)
	for name, test := range uploads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			m.Misbehave(test.choose)
			err := open(t, newClient(), m.Name("app:1")).PushBlob(t.Context(), describe("", data), reopen(data))
			checkUpload(t, m, data, err, test.want)
		})
	}
}

func TestPushStream(t *testing.T) {
	t.Parallel()
	data := registrytest.Noise(3 << 20)
	for name, test := range uploads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			m.Misbehave(test.choose)
			d, size, err := open(t, newClient(), m.Name("app:1")).PushStream(t.Context(), func(w io.Writer) error {
				_, err := w.Write(data)
				return err
			})
			if err == nil && (d.String() != registrytest.Digest(data) || size != int64(len(data))) {
				t.Errorf("pushed %s with %d bytes", d, size)
			}
			checkUpload(t, m, data, err, test.want)
		})
	}
}

func checkUpload(t *testing.T, m *registrytest.Server, data []byte, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want == "" && m.Blob("app", registrytest.Digest(data)) == nil:
		t.Error("the registry does not have the blob")
	case want != "" && (err == nil || !containsAny(err.Error(), want)):
		t.Errorf("error %v, want %q", err, want)
	}
	if n := len(m.Seen()); n > 60 {
		t.Errorf("%d requests", n)
	}
}

// TestPushOfUnreadable: what cannot be read is not tried again, and the error is the reader's.
func TestPushOfUnreadable(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	repo := open(t, newClient(), m.Name("app:1"))
	broken := errors.New("broken disk")
	var tries atomic.Int32
	for name, push := range map[string]func() error{
		"open": func() error {
			return repo.PushBlob(t.Context(), describe("", []byte("x")), func() (io.ReadCloser, error) {
				tries.Add(1)
				return nil, broken
			})
		},
		"read": func() error {
			return repo.PushBlob(t.Context(), describe("", []byte("xy")), func() (io.ReadCloser, error) {
				tries.Add(1)
				return io.NopCloser(io.MultiReader(strings.NewReader("x"), failing{broken})), nil
			})
		},
		"write": func() error {
			_, _, err := repo.PushStream(t.Context(), func(w io.Writer) error {
				tries.Add(1)
				_, _ = io.WriteString(w, "x")
				return broken
			})
			return err
		},
	} {
		tries.Store(0)
		if err := push(); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		if n := tries.Load(); n != 1 {
			t.Errorf("%s: %d tries", name, n)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestPushEmptyBlob(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	if err := open(t, newClient(), m.Name("app:1")).PushBlob(t.Context(), describe("", nil), reopen(nil)); err != nil {
		t.Fatal(err)
	}
	if m.Blob("app", registrytest.Digest(nil)) == nil {
		t.Error("the registry does not have the blob")
	}
}

func TestMountBlob(t *testing.T) {
	t.Parallel()
	data := registrytest.Noise(1000)
	for name, test := range map[string]struct {
		from   string
		choose func(registrytest.Request) registrytest.Fault
		opened int
		want   string
	}{
		"there":     {"base", nil, 0, ""},
		"not there": {"other", nil, 1, ""},
		"refused":   {"base", registrytest.On("POST", registrytest.Upload, 1, 0, registrytest.Status(403)), 0, "403"},
	} {
		m := registrytest.New(t)
		m.AddBlob("base", data)
		m.Misbehave(test.choose)
		opened := 0
		err := open(t, newClient(), m.Name("app:1")).MountBlob(t.Context(), describe("", data), test.from, func() (io.ReadCloser, error) {
			opened++
			return reopen(data)()
		})
		if opened != test.opened {
			t.Errorf("%s: opened %d times", name, opened)
		}
		checkUpload(t, m, data, err, test.want)
	}
}

// TestUploadLocations that are not used.
func TestUploadLocations(t *testing.T) {
	t.Parallel()
	for location, want := range map[string]string{
		"ftp://127.0.0.1/x": "without TLS",
		"http:///x":         "without TLS",
		"%zz":               "where to upload",
	} {
		m := registrytest.New(t)
		m.Misbehave(registrytest.On("POST", registrytest.Upload, 1, 0, registrytest.Header("Location", location)))
		err := open(t, newClient(), m.Name("app:1")).PushBlob(t.Context(), describe("", []byte("x")), reopen([]byte("x")))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", location, err, want)
		}
	}
}
