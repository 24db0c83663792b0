//go:build e2e

package remote

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// blobsOnly lets a fault meet the requests for layers and configs, from the nth on and so many times.
func blobsOnly(from, times int32, fault func(w http.ResponseWriter, r *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		if i := n.Add(1); i < from || i >= from+times {
			return false
		}
		return fault(w, r)
	}
}

func status(code int, header ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		refuse(w, code, "UNKNOWN")
		return true
	}
}

// cut sends the first n bytes of a blob and breaks the connection.
func (f *fake) cut(n int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		f.mu.Lock()
		data := f.blobs[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]
		f.mu.Unlock()
		rec := httptest.NewRecorder()
		serveRange(rec, r, data)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:min(n, rec.Body.Len())])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// TestRecovers: what passes by itself is tried again, and the image is right in the end.
func TestRecovers(t *testing.T) {
	layer := noise(t, 3<<20)
	for name, fault := range map[string]func(f *fake) func(http.ResponseWriter, *http.Request) bool{
		"connection cut in the middle": func(f *fake) func(http.ResponseWriter, *http.Request) bool { return blobsOnly(1, 3, f.cut(700_000)) },
		"connection cut at once":       func(f *fake) func(http.ResponseWriter, *http.Request) bool { return blobsOnly(1, 2, f.cut(0)) },
		"500":                          func(*fake) func(http.ResponseWriter, *http.Request) bool { return blobsOnly(1, 2, status(500)) },
		"503":                          func(*fake) func(http.ResponseWriter, *http.Request) bool { return blobsOnly(2, 2, status(503)) },
		"408":                          func(*fake) func(http.ResponseWriter, *http.Request) bool { return blobsOnly(2, 1, status(408)) },
		"429 with a time to wait": func(*fake) func(http.ResponseWriter, *http.Request) bool {
			return blobsOnly(2, 1, status(429, "Retry-After", "1"))
		},
		"a byte changed, once":       func(f *fake) func(http.ResponseWriter, *http.Request) bool { return blobsOnly(2, 1, f.changed()) },
		"500 for the manifest, once": func(*fake) func(http.ResponseWriter, *http.Request) bool { return once("/manifests/", status(500)) },
		"connection cut at the greeting": func(*fake) func(http.ResponseWriter, *http.Request) bool {
			return once("/manifests/", func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.image("app", "1", nil, nil, layer)
			f.setFault(fault(f))
			m := rig.NewMica(t)
			m.Run("pull", "-q", f.host()+"/app:1")
			if got := len(m.Run("export", f.host()+"/app:1")); got < 3<<20 {
				t.Errorf("the image has %d bytes", got)
			}
		})
	}
}

func once(path string, fault func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	var done atomic.Bool
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, path) || done.Swap(true) {
			return false
		}
		return fault(w, r)
	}
}

// changed sends a blob with its last byte changed.
func (f *fake) changed() func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		f.mu.Lock()
		data := append([]byte{}, f.blobs[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]...)
		f.mu.Unlock()
		data[len(data)/2] ^= 1
		serveRange(w, r, data)
		return true
	}
}

// TestRefuses: what does not pass ends in one clear error, in bounded time, with no image in the store; and when the
// registry is well again, so is the pull.
func TestRefuses(t *testing.T) {
	layer := noise(t, 1<<20)
	always := func(path string, fault func(http.ResponseWriter, *http.Request) bool) func(*fake) {
		return func(f *fake) {
			f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
				return strings.Contains(r.URL.Path, path) && r.Method == http.MethodGet && fault(w, r)
			})
		}
	}
	for name, c := range map[string]struct {
		hurt func(f *fake)
		want string
	}{
		"500 for ever":        {always("/blobs/", status(500)), `answers 500`},
		"401 for ever":        {always("/", status(401, "WWW-Authenticate", `Basic realm="x"`)), `access to .*app:1 denied: .*mica login`},
		"403":                 {always("/manifests/", status(403)), `access to .*app:1 denied`},
		"404":                 {always("/manifests/", status(404)), `manifest for .*app:1 not found`},
		"429 for an hour":     {always("/manifests/", status(429, "Retry-After", "3600")), `answers 429`},
		"wrong content":       {func(f *fake) { always("/blobs/", f.changed())(f) }, `digest mismatch|damaged`},
		"cut at every byte 0": {func(f *fake) { always("/blobs/", f.cut(0))(f) }, `broke 5 times|unexpected EOF|EOF`},
		"wrong length": {func(f *fake) {
			always("/blobs/", func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Length", "7")
				_, _ = w.Write([]byte("seven b"))
				return true
			})(f)
		}, `bytes, the registry 7`},
		"manifest with another digest": {func(f *fake) {
			always("/manifests/", func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", ociManifest)
				w.Header().Set("Docker-Content-Digest", sum([]byte("another")))
				_, _ = w.Write([]byte(`{"schemaVersion":2}`))
				return true
			})(f)
		}, `digest mismatch|mismatch`},
		"manifest of 100 MB": {func(f *fake) {
			always("/manifests/", func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", ociManifest)
				w.Header().Set("Content-Length", strconv.Itoa(100<<20))
				block := make([]byte, 1<<20)
				for range 100 {
					if _, err := w.Write(block); err != nil {
						break
					}
				}
				return true
			})(f)
		}, `more than the 4194304|size limit|exceeds`},
		"unknown manifest type": {func(f *fake) {
			f.put("app", "1", "application/vnd.example.thing+json", []byte(`{"schemaVersion":2}`))
		}, `unknown type "application/vnd.example.thing\+json"`},
		"schema 1": {func(f *fake) {
			f.put("app", "1", "application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1}`))
		}, `schema 1`},
		"not JSON":              {func(f *fake) { f.put("app", "1", ociManifest, []byte(`<html>`)) }, `manifest sha256:`},
		"unknown layer type":    {edited(layer, "application/vnd.example.layer"), `unknown type "application/vnd.example.layer"`},
		"foreign layer":         {foreign, `foreign layer`},
		"artifact, no image":    {func(f *fake) { f.artifact("app", "1", nil) }, `no image`},
		"index without us":      {onlyFor("s390x"), `no matching manifest for linux/`},
		"index in itself":       {selfReferring, `digest mismatch|mismatch`},
		"index in an index":     {nested, `has an index in it`},
		"wrong layer in config": {wrongConfig(layer), `damaged|its content is`},
		"layer that is no tar":  {func(f *fake) { f.image("app", "1", nil, nil, []byte(strings.Repeat("no tar ", 300))) }, `not a tar archive`},
		"fewer layers": {func(f *fake) {
			f.image("app", "1", nil, func(m map[string]any) { m["layers"] = []any{} }, layer)
		}, `has 0 layers, its config 1`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.image("app", "1", nil, nil, layer)
			f.image("good", "1", nil, nil, layer)
			c.hurt(f)
			m := rig.NewMica(t)
			out := m.Try(nil, "pull", f.host()+"/app:1")
			lines := strings.Split(strings.TrimSpace(out.Stderr), "\n")
			last := lines[len(lines)-1]
			if out.Code != 1 || !strings.HasPrefix(last, "Error: ") || !regexp.MustCompile(c.want).MatchString(last) {
				t.Errorf("exit code %d, says %q, want %q", out.Code, last, c.want)
			}
			if strings.Contains(out.Stderr, "panic") || strings.Contains(out.Stderr, "goroutine") {
				t.Errorf("internals show:\n%s", out.Stderr)
			}
			if list := m.Run("images", "-aq"); list != "" {
				t.Errorf("images that nobody has: %s", list)
			}
			f.setFault(nil)
			m.Run("pull", "-q", f.host()+"/good:1")
			m.Run("export", "-o", "/dev/null", f.host()+"/good:1")
		})
	}
}

func edited(layer []byte, mediaType string) func(*fake) {
	return func(f *fake) {
		f.image("app", "1", nil, func(m map[string]any) {
			m["layers"].([]any)[0].(map[string]any)["mediaType"] = mediaType
		}, layer)
	}
}

func foreign(f *fake) {
	data := []byte("what the registry does not have")
	f.image("app", "1", nil, func(m map[string]any) {
		m["layers"] = []any{map[string]any{
			"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": sum(data), "size": len(data),
			"urls": []string{f.srv.URL + "/elsewhere"},
		}}
	}, data)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.blobs, sum(data))
}

// artifact adds a manifest that is no image's; subject is what it refers to, or nil.
func (f *fake) artifact(repo, tag string, subject map[string]any) map[string]any {
	m := map[string]any{
		"schemaVersion": 2, "mediaType": ociManifest, "artifactType": "application/vnd.example.signature",
		"config": f.blob("application/vnd.oci.empty.v1+json", []byte("{}")),
		"layers": []any{f.blob("application/octet-stream", []byte("signed by nobody "+repo+tag))},
	}
	if subject != nil {
		m["subject"] = subject
	}
	return f.manifest(repo, tag, ociManifest, m)
}

func onlyFor(arch string) func(*fake) {
	return func(f *fake) {
		d := f.image("app", "x", map[string]any{"architecture": arch}, nil, []byte{})
		d["platform"] = map[string]any{"architecture": arch, "os": "linux"}
		f.manifest("app", "1", ociIndex, map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{d}})
	}
}

// selfReferring: a registry that answers for every digest with the same index.
func selfReferring(f *fake) {
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":1,"platform":{"architecture":"amd64","os":"linux"}}]}`,
		ociIndex, ociIndex, sum([]byte("itself")))
	f.put("app", "1", ociIndex, []byte(index))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.manifests["app"][sum([]byte("itself"))] = sealed{ociIndex, []byte(index)}
}

func nested(f *fake) {
	d := f.image("app", "x", nil, nil, []byte{})
	inner := f.manifest("app", "y", ociIndex, map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{d}})
	inner["platform"] = map[string]any{"architecture": "amd64", "os": "linux"}
	f.manifest("app", "1", ociIndex, map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{inner}})
}

func wrongConfig(layer []byte) func(*fake) {
	return func(f *fake) {
		other := f.blob(ociLayer, zip(rig.LayerOf(f.t, map[string][]byte{"other": []byte("file")})))
		f.image("app", "1", nil, func(m map[string]any) { m["layers"] = []any{other} }, layer)
	}
}

// TestRedirectKeepsCredentials: blobs may come from another host, which must not see the registry's credentials.
func TestRedirectKeepsCredentials(t *testing.T) {
	f := newFake(t)
	f.image("app", "1", nil, nil, noise(t, 100_000))
	var leaked, served atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Add(1)
		}
		served.Add(1)
		f.serveBlob(w, r, "", strings.TrimPrefix(r.URL.Path, "/"))
	}))
	t.Cleanup(elsewhere.Close)
	f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, ok := r.BasicAuth(); !ok || user != "u" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
			return true
		}
		if _, digest, ok := strings.Cut(r.URL.Path, "/blobs/"); ok && r.Method == http.MethodGet {
			http.Redirect(w, r, elsewhere.URL+"/"+digest, http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	m := rig.NewMica(t)
	m.Env = append(m.Env, "DOCKER_CONFIG="+rig.TempDir(t))
	m.RunIn(strings.NewReader("secret"), "login", "-u", "u", "--password-stdin", f.host())
	m.Run("pull", "-q", f.host()+"/app:1")
	if served.Load() == 0 || leaked.Load() != 0 {
		t.Errorf("the other host served %d blobs and saw credentials %d times", served.Load(), leaked.Load())
	}
}
