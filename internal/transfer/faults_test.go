package transfer

import (
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestPullRecovers from what passes by itself, and from what a registry may lack.
func TestPullRecovers(t *testing.T) {
	big := registrytest.Noise(1 << 20)
	for name, choose := range map[string]func(registrytest.Request) registrytest.Fault{
		"manifest: connection lost":      registrytest.On("GET", registrytest.Manifest, 1, 2, registrytest.Hangup),
		"manifest: 500":                  registrytest.On("GET", registrytest.Manifest, 1, 2, registrytest.Status(500)),
		"manifest: 503":                  registrytest.On("GET", registrytest.Manifest, 1, 1, registrytest.Status(503, "Retry-After", "0")),
		"manifest: 429":                  registrytest.On("GET", registrytest.Manifest, 1, 2, registrytest.Status(429, "Retry-After", "1")),
		"manifest: cut":                  registrytest.On("GET", registrytest.Manifest, 1, 1, registrytest.Cut(100)),
		"blob: connection lost":          registrytest.On("GET", registrytest.Blob, 1, 3, registrytest.Hangup),
		"blob: cut at once":              registrytest.On("GET", registrytest.Blob, 1, 3, registrytest.Cut(0)),
		"blob: cut in the middle":        registrytest.On("GET", registrytest.Blob, 1, 3, registrytest.Cut(400<<10)),
		"blob: cut before the last byte": registrytest.On("GET", registrytest.Blob, 2, 2, registrytest.Cut(1<<20)),
		"blob: 408":                      registrytest.On("GET", registrytest.Blob, 1, 1, registrytest.Status(408)),
		"blob: 429":                      registrytest.On("GET", registrytest.Blob, 1, 2, registrytest.Status(429, "Retry-After", "0")),
		"blob: 500":                      registrytest.On("GET", registrytest.Blob, 2, 3, registrytest.Status(500)),
		"blob: 502":                      registrytest.On("GET", registrytest.Blob, 2, 3, registrytest.Status(502)),
		"blob: 504":                      registrytest.On("GET", registrytest.Blob, 2, 3, registrytest.Status(504)),
		"layer: one byte changed, once":  registrytest.On("GET", registrytest.Blob, 2, 2, registrytest.Flip()),
		"layer: no ranges":               registrytest.Always(registrytest.NoRanges),
		"layer: no ranges, and cut": func(r registrytest.Request) registrytest.Fault {
			if r.Kind == registrytest.Blob && r.Nth == 2 {
				return registrytest.Cut(400 << 10)
			}
			return registrytest.NoRanges
		},
		"no digest in the header": registrytest.Always(registrytest.Header("Docker-Content-Digest", "")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			d := m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", big))
			met := m.Count(choose)
			c := newClient(t)
			if got := c.pull(m.Name("app:1")).Root.Digest.String(); got != d.Digest {
				t.Errorf("pulled %s, want %s", got, d.Digest)
			}
			if got := c.content(m.Name("app:1"), "made"); got != string(big) {
				t.Error("what came is another")
			}
			if met.Load() == 0 {
				t.Errorf("the fault met nobody: %+v", m.Seen())
			}
		})
	}
}

// TestPullGivesUp with one clear line, keeps nothing, and works when the registry does.
func TestPullGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		choose func(registrytest.Request) registrytest.Fault
		says   string
		most   int // requests of a kind; 0: about as many tries as there may be
	}{
		"always 500":                  {registrytest.On("GET", registrytest.Blob, 1, 0, registrytest.Status(500)), `500`, 0},
		"always cut":                  {registrytest.On("GET", registrytest.Blob, 1, 0, registrytest.Cut(0)), `sha256:|layer|config|EOF|broke`, 0},
		"always hung up":              {registrytest.Always(registrytest.Hangup), `EOF|reset|reached`, 0},
		"429 for an hour":             {registrytest.On("GET", registrytest.Manifest, 1, 0, registrytest.Status(429, "Retry-After", "3600")), `429`, 1},
		"401 in between":              {registrytest.On("GET", registrytest.Blob, 2, 0, registrytest.Status(401, "WWW-Authenticate", `Basic realm="tests"`)), `denied|401`, 3},
		"403":                         {registrytest.On("GET", registrytest.Blob, 1, 0, registrytest.Status(403)), `denied|403`, 2},
		"blobs are gone":              {registrytest.On("GET", registrytest.Blob, 1, 0, registrytest.Status(404)), `not found|unknown|404|does not have`, 2},
		"bytes changed":               {registrytest.On("GET", registrytest.Blob, 1, 0, registrytest.Flip()), `digest|damaged|something else`, 6},
		"a shorter body":              {registrytest.On("GET", registrytest.Blob, 1, 0, registrytest.Short(1)), `bytes|digest|size|short`, 6},
		"a longer body":               {registrytest.On("GET", registrytest.Blob, 1, 0, registrytest.Long(1)), `bytes|digest|size|long`, 6},
		"an empty body":               {registrytest.On("GET", registrytest.Blob, 1, 0, registrytest.Wrong("application/octet-stream", nil)), `bytes|digest|size|EOF`, 6},
		"a page of HTML":              {registrytest.On("GET", registrytest.Blob, 1, 0, registrytest.Wrong("text/html", []byte("<html>log in, please</html>"))), `bytes|digest|size`, 6},
		"manifest changed":            {registrytest.On("GET", registrytest.Manifest, 1, 0, registrytest.Flip()), `digest|mismatch|JSON|manifest`, 6},
		"manifest: HTML":              {registrytest.On("GET", registrytest.Manifest, 1, 0, registrytest.Wrong("text/html", []byte("<html>log in, please</html>"))), `text/html|JSON|manifest|type`, 3},
		"manifest: wrong digest":      {registrytest.On("GET", registrytest.Manifest, 1, 0, registrytest.Header("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))), `digest|mismatch`, 6},
		"manifest: digest is no such": {registrytest.On("GET", registrytest.Manifest, 1, 0, registrytest.Header("Docker-Content-Digest", "../../etc")), `digest`, 6},
		"manifest: short":             {registrytest.On("GET", registrytest.Manifest, 1, 0, registrytest.Short(20)), `digest|mismatch|JSON|manifest`, 6},
		"redirect in a circle": {registrytest.On("GET", registrytest.Blob, 1, 0, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
		}), `redirect`, 60},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", registrytest.Noise(100_000)))
			user := newClient(t)
			user.build("mine", "mine:1")
			met := m.Count(c.choose)
			user.refusesPull(c.says, m.Name("app:1"))
			if met.Load() == 0 {
				t.Errorf("the fault met nobody: %+v", m.Seen())
			}
			most := c.most
			if most == 0 {
				most = 30 // of a config and a layer, five tries each, and room
			}
			if n := len(m.Seen(registrytest.Blob, registrytest.Manifest)); n > 2*most+2 {
				t.Errorf("it asked %d times", n)
			}
			m.Behave()
			user.pull(m.Name("app:1"))
			if got := user.content(m.Name("app:1"), "made"); got != string(registrytest.Noise(100_000)) {
				t.Error("what came then is another")
			}
		})
	}
}

// TestHugeManifestIsNotRead: it is refused before it has come.
func TestHugeManifestIsNotRead(t *testing.T) {
	m := registrytest.New(t)
	m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "made", []byte("x")))
	var read atomic.Int64
	m.Misbehave(registrytest.On("GET", registrytest.Manifest, 1, 0, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		registrytest.Huge(registrytest.TypeManifest, 100<<20)(counted{w, &read}, r, next)
	}))
	c := newClient(t)
	c.refusesPull(`manifest has \d+ bytes, more than`, m.Name("app:1"))
	c.refuses(`manifest has \d+ bytes, more than`, func() error {
		_, err := Inspect(t.Context(), c.client, parseName(t, m.Name("app:1")))
		return err
	})
	m.Behave()
	if n := read.Load(); n > 90<<20 {
		t.Errorf("%d bytes of it were taken", n)
	}
	c.pull(m.Name("app:1"))
}

// counted adds up the bytes that a client took.
type counted struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// TestPushRecovers from what passes by itself.
func TestPushRecovers(t *testing.T) {
	for name, choose := range map[string]func(registrytest.Request) registrytest.Fault{
		"begin: connection lost":         registrytest.On("POST", registrytest.Upload, 1, 2, registrytest.Hangup),
		"begin: 500":                     registrytest.On("POST", registrytest.Upload, 1, 2, registrytest.Status(500)),
		"begin: 429":                     registrytest.On("POST", registrytest.Upload, 1, 1, registrytest.Status(429, "Retry-After", "1")),
		"send: cut":                      registrytest.Sending(1, 1, registrytest.CutUpload(50_000)),
		"send: cut thrice":               registrytest.Sending(1, 3, registrytest.CutUpload(1000)),
		"send: 503":                      registrytest.Sending(1, 1, registrytest.Status(503)),
		"send: 502":                      registrytest.Sending(2, 2, registrytest.Status(502)),
		"send: the upload is gone":       registrytest.Sending(1, 1, registrytest.Status(404)),
		"send: done, the answer is lost": registrytest.Sending(1, 1, registrytest.Lost),
		"manifest: 500":                  registrytest.On("PUT", registrytest.Manifest, 1, 2, registrytest.Status(500)),
		"manifest: connection lost":      registrytest.On("PUT", registrytest.Manifest, 1, 2, registrytest.Hangup),
		"manifest: the answer is lost":   registrytest.On("PUT", registrytest.Manifest, 1, 1, registrytest.Lost),
		"look: 500":                      registrytest.On("HEAD", registrytest.Blob, 1, 2, registrytest.Status(500)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			c := newClient(t)
			c.build("one", m.Name("app:1"))
			met := m.Count(choose)
			d := c.push(m.Name("app:1"), PushOptions{}).Root.Digest.String()
			if met.Load() == 0 {
				t.Errorf("the fault met nobody: %+v", m.Seen())
			}
			if got := registrytest.Digest(m.Manifest("app", "1").Data); got != d {
				t.Errorf("pushed %s, the registry has %s", d, got)
			}
			m.Behave()
			c.validate(m.Name("app:1"))
		})
	}
}

// TestPushGivesUp with one clear line, and leaves no tag.
func TestPushGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		choose func(registrytest.Request) registrytest.Fault
		says   string
	}{
		"always 500":           {registrytest.Sending(1, 0, registrytest.Status(500)), `500`},
		"always cut":           {registrytest.Sending(1, 0, registrytest.CutUpload(10)), `EOF|reset|broke|pipe|closed`},
		"may not":              {registrytest.On("POST", registrytest.Upload, 1, 0, registrytest.Status(403)), `denied`},
		"too large":            {registrytest.Sending(1, 0, registrytest.Status(413)), `413`},
		"digest refused":       {registrytest.Sending(1, 0, registrytest.Status(400)), `400`},
		"manifest refused":     {registrytest.On("PUT", registrytest.Manifest, 1, 0, registrytest.Status(400)), `400`},
		"read only":            {registrytest.On("POST", registrytest.Upload, 1, 0, registrytest.Status(405)), `405`},
		"no place for uploads": {registrytest.On("POST", registrytest.Upload, 1, 0, registrytest.Status(202)), `[Ll]ocation|202`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := registrytest.New(t)
			user := newClient(t)
			user.build("one", m.Name("app:1"))
			met := m.Count(c.choose)
			user.refusesPush(c.says, m.Name("app:1"))
			if met.Load() == 0 {
				t.Errorf("the fault met nobody: %+v", m.Seen())
			}
			if m.Manifest("app", "1").Data != nil {
				t.Error("there is a tag")
			}
			m.Behave()
			user.push(m.Name("app:1"), PushOptions{})
			user.validate(m.Name("app:1"))
		})
	}
}
