//go:build e2e

package registry

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// on makes a fault meet the requests of a method and kind, from one to another (from 1; 0: for ever).
func on(method string, kind rig.Kind, from, to int, fault rig.Fault) func(rig.Request) rig.Fault {
	return func(r rig.Request) rig.Fault {
		if r.Method == method && r.Kind == kind && r.Nth >= from && (to == 0 || r.Nth <= to) {
			return fault
		}
		return nil
	}
}

// TestPullRecovers from what passes by itself, and from what a registry may lack.
func TestPullRecovers(t *testing.T) {
	big := noise(3 << 20)
	for name, choose := range map[string]func(rig.Request) rig.Fault{
		"manifest: connection lost":      on("GET", rig.Manifest, 1, 2, rig.Hangup),
		"manifest: 500":                  on("GET", rig.Manifest, 1, 2, rig.Status(500)),
		"manifest: 503":                  on("GET", rig.Manifest, 1, 1, rig.Status(503, "Retry-After", "0")),
		"manifest: 429":                  on("GET", rig.Manifest, 1, 2, rig.Status(429, "Retry-After", "1")),
		"manifest: cut":                  on("GET", rig.Manifest, 1, 1, rig.Cut(100)),
		"blob: connection lost":          on("GET", rig.Blob, 1, 3, rig.Hangup),
		"blob: cut at once":              on("GET", rig.Blob, 1, 3, rig.Cut(0)),
		"blob: cut in the middle":        on("GET", rig.Blob, 1, 3, rig.Cut(1<<20)),
		"blob: cut before the last byte": on("GET", rig.Blob, 2, 2, rig.Cut(3<<20)),
		"blob: 408":                      on("GET", rig.Blob, 1, 1, rig.Status(408)),
		"blob: 429":                      on("GET", rig.Blob, 1, 2, rig.Status(429, "Retry-After", "0")),
		"blob: 500":                      on("GET", rig.Blob, 2, 3, rig.Status(500)),
		"blob: 502":                      on("GET", rig.Blob, 2, 3, rig.Status(502)),
		"blob: 504":                      on("GET", rig.Blob, 2, 3, rig.Status(504)),
		"layer: one byte changed, once":  on("GET", rig.Blob, 2, 2, rig.Flip()),
		"layer: no ranges":               always(rig.NoRanges),
		"layer: no ranges, and cut": func(r rig.Request) rig.Fault {
			if r.Kind == rig.Blob && r.Nth == 2 {
				return rig.Cut(1 << 20)
			}
			return rig.NoRanges
		},
		"no digest in the header": always(rig.Header("Docker-Content-Digest", "")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(t)
			d := m.image("app", "1", here(), nil, layer(t, "made", big))
			met := m.hurt(choose)
			c := newClient(t)
			c.mustSay(`Digest: `+d.Digest, "pull", m.name("app:1"))
			if got := c.content(m.name("app:1"), "made"); got != string(big) {
				t.Error("what came is another")
			}
			if met.Load() == 0 {
				t.Errorf("the fault met nobody: %+v", m.Seen())
			}
		})
	}
}

func always(fault rig.Fault) func(rig.Request) rig.Fault {
	return func(rig.Request) rig.Fault { return fault }
}

// TestPullGivesUp with one clear line, keeps nothing, and works when the registry does.
func TestPullGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		choose func(rig.Request) rig.Fault
		says   string
		most   int // requests of a kind; 0: about as many tries as there may be
	}{
		"always 500":                  {on("GET", rig.Blob, 1, 0, rig.Status(500)), `500`, 0},
		"always cut":                  {on("GET", rig.Blob, 1, 0, rig.Cut(0)), `sha256:|layer|config|EOF|broke`, 0},
		"always hung up":              {always(rig.Hangup), `EOF|reset|reached`, 0},
		"429 for an hour":             {on("GET", rig.Manifest, 1, 0, rig.Status(429, "Retry-After", "3600")), `429`, 1},
		"401 in between":              {on("GET", rig.Blob, 2, 0, rig.Status(401, "WWW-Authenticate", `Basic realm="tests"`)), `denied|401`, 3},
		"403":                         {on("GET", rig.Blob, 1, 0, rig.Status(403)), `denied|403`, 2},
		"blobs are gone":              {on("GET", rig.Blob, 1, 0, rig.Status(404)), `not found|unknown|404|does not have`, 2},
		"bytes changed":               {on("GET", rig.Blob, 1, 0, rig.Flip()), `digest|damaged|something else`, 6},
		"a shorter body":              {on("GET", rig.Blob, 1, 0, rig.Short(1)), `bytes|digest|size|short`, 6},
		"a longer body":               {on("GET", rig.Blob, 1, 0, rig.Long(1)), `bytes|digest|size|long`, 6},
		"an empty body":               {on("GET", rig.Blob, 1, 0, rig.Wrong("application/octet-stream", nil)), `bytes|digest|size|EOF`, 6},
		"a page of HTML":              {on("GET", rig.Blob, 1, 0, rig.Wrong("text/html", []byte("<html>log in, please</html>"))), `bytes|digest|size`, 6},
		"manifest changed":            {on("GET", rig.Manifest, 1, 0, rig.Flip()), `digest|mismatch|JSON|manifest`, 6},
		"manifest: HTML":              {on("GET", rig.Manifest, 1, 0, rig.Wrong("text/html", []byte("<html>log in, please</html>"))), `text/html|JSON|manifest|type`, 3},
		"manifest: wrong digest":      {on("GET", rig.Manifest, 1, 0, rig.Header("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))), `digest|mismatch`, 6},
		"manifest: digest is no such": {on("GET", rig.Manifest, 1, 0, rig.Header("Docker-Content-Digest", "../../etc")), `digest`, 6},
		"manifest: short":             {on("GET", rig.Manifest, 1, 0, rig.Short(20)), `digest|mismatch|JSON|manifest`, 6},
		"redirect in a circle": {on("GET", rig.Blob, 1, 0, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
		}), `redirect`, 60},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(t)
			m.image("app", "1", here(), nil, layer(t, "made", noise(100_000)))
			user := newClient(t)
			user.build("mine", "mine:1")
			met := m.hurt(c.choose)
			user.refuses(c.says, "pull", m.name("app:1"))
			if met.Load() == 0 {
				t.Errorf("the fault met nobody: %+v", m.Seen())
			}
			most := c.most
			if most == 0 {
				most = 30 // of a config and a layer, five tries each, and room
			}
			if n := len(m.Seen(rig.Blob, rig.Manifest)); n > 2*most+2 {
				t.Errorf("it asked %d times", n)
			}
			m.Behave()
			user.Run("pull", "-q", m.name("app:1"))
			if got := user.content(m.name("app:1"), "made"); got != string(noise(100_000)) {
				t.Error("what came then is another")
			}
		})
	}
}

// TestHugeManifestIsNotRead: it is refused before it has come.
func TestHugeManifestIsNotRead(t *testing.T) {
	m := newMemory(t)
	m.image("app", "1", here(), nil, layer(t, "made", []byte("x")))
	read := 0
	m.Misbehave(on("GET", rig.Manifest, 1, 0, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rig.Huge(rig.TypeManifest, 100<<20)(counted{w, &read}, r, next)
	}))
	c := newClient(t)
	c.refuses(`manifest|large|limit|bytes`, "pull", m.name("app:1"))
	c.refuses(`manifest|large|limit|bytes`, "manifest", "inspect", m.name("app:1"))
	c.refuses(`manifest|large|limit|bytes`, "copy", m.name("app:1"), "oci:"+rig.TempDir(t)+"/x")
	m.Behave()
	if read > 90<<20 {
		t.Errorf("%d bytes of it were taken", read)
	}
	c.Run("pull", "-q", m.name("app:1"))
}

// counted adds up what a client took. It serves one request at a time.
type counted struct {
	http.ResponseWriter
	n *int
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	*c.n += n
	return n, err
}

// TestPushRecovers from what passes by itself.
func TestPushRecovers(t *testing.T) {
	for name, choose := range map[string]func(rig.Request) rig.Fault{
		"begin: connection lost":         on("POST", rig.Upload, 1, 2, rig.Hangup),
		"begin: 500":                     on("POST", rig.Upload, 1, 2, rig.Status(500)),
		"begin: 429":                     on("POST", rig.Upload, 1, 1, rig.Status(429, "Retry-After", "1")),
		"send: cut":                      sending(1, 1, rig.CutUpload(50_000)),
		"send: cut thrice":               sending(1, 3, rig.CutUpload(1000)),
		"send: 503":                      sending(1, 1, rig.Status(503)),
		"send: 502":                      sending(2, 2, rig.Status(502)),
		"send: the upload is gone":       sending(1, 1, rig.Status(404)),
		"send: done, the answer is lost": sending(1, 1, lost),
		"manifest: 500":                  on("PUT", rig.Manifest, 1, 2, rig.Status(500)),
		"manifest: connection lost":      on("PUT", rig.Manifest, 1, 2, rig.Hangup),
		"manifest: the answer is lost":   on("PUT", rig.Manifest, 1, 1, lost),
		"look: 500":                      on("HEAD", rig.Blob, 1, 2, rig.Status(500)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(t)
			c := newClient(t)
			c.build("one", m.name("app:1"))
			met := m.hurt(choose)
			d := digestIn(t, c.says("push", m.name("app:1")))
			if met.Load() == 0 {
				t.Errorf("the fault met nobody: %+v", m.Seen())
			}
			if got := rig.Digest(m.Manifest("app", "1").Data); got != d {
				t.Errorf("pushed %s, the registry has %s", d, got)
			}
			m.Behave()
			crane(t, "validate", "--remote", m.name("app:1"))
		})
	}
}

// sending is on for whatever carries the bytes of a blob.
func sending(from, to int, fault rig.Fault) func(rig.Request) rig.Fault {
	return func(r rig.Request) rig.Fault {
		if f := on("PATCH", rig.Upload, from, to, fault)(r); f != nil {
			return f
		}
		return on("PUT", rig.Upload, from, to, fault)(r)
	}
}

// lost does what was asked for, and breaks the connection before it says so.
func lost(_ http.ResponseWriter, r *http.Request, next http.Handler) {
	next.ServeHTTP(nowhere{}, r)
	panic(http.ErrAbortHandler)
}

type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return io.Discard.Write(p) }
func (nowhere) WriteHeader(int)             {}

// TestPushGivesUp with one clear line, and leaves no tag.
func TestPushGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		choose func(rig.Request) rig.Fault
		says   string
	}{
		"always 500":           {sending(1, 0, rig.Status(500)), `500`},
		"always cut":           {sending(1, 0, rig.CutUpload(10)), `EOF|reset|broke|pipe|closed`},
		"may not":              {on("POST", rig.Upload, 1, 0, rig.Status(403)), `denied`},
		"too large":            {sending(1, 0, rig.Status(413)), `413`},
		"digest refused":       {sending(1, 0, rig.Status(400)), `400`},
		"manifest refused":     {on("PUT", rig.Manifest, 1, 0, rig.Status(400)), `400`},
		"read only":            {on("POST", rig.Upload, 1, 0, rig.Status(405)), `405`},
		"no place for uploads": {on("POST", rig.Upload, 1, 0, rig.Status(202)), `[Ll]ocation|202`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(t)
			user := newClient(t)
			user.build("one", m.name("app:1"))
			met := m.hurt(c.choose)
			user.refuses(c.says, "push", m.name("app:1"))
			if met.Load() == 0 {
				t.Errorf("the fault met nobody: %+v", m.Seen())
			}
			if m.Manifest("app", "1").Data != nil {
				t.Error("there is a tag")
			}
			m.Behave()
			user.Run("push", "-q", m.name("app:1"))
			crane(t, "validate", "--remote", m.name("app:1"))
		})
	}
}
