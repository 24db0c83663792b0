package s3cache

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/registry"
)

// testPart is the size of parts in these tests.
const testPart = 64 << 10

// bucket is a service with one bucket, in memory. test/remotecache uses a real one, which verifies signatures.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]byte
	uploads map[string]map[int][]byte
	old     bool                       // Last-Modified is long ago
	copied  int                        // objects that got the current time
	fault   func(*http.Request) string // returns an error of the service, "" for none
}

func newBucket(t *testing.T) (*bucket, *Cache) {
	t.Helper()
	b := &bucket{objects: map[string][]byte{}, uploads: map[string]map[int][]byte{}}
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	c, err := New(Options{
		Bucket: "bucket", Region: "us-east-1", Endpoint: s.URL, PathStyle: true, Keys: StaticKeys("id", "verysecret", "session"),
		Prefix: "p/", Blobs: "blobs/", Manifests: "manifests/", Names: []string{"one", "two"}, Refresh: time.Hour, Parallel: 2,
		Objects: registry.New(registry.Options{FirstWait: time.Millisecond}).Objects(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.part = testPart
	return b, c
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := strings.TrimPrefix(r.URL.Path, "/bucket/")
	q := r.URL.Query()
	code := ""
	if b.fault != nil {
		code = b.fault(r)
	}
	auth := r.Header.Get("Authorization")
	switch {
	case code != "":
		refuse(w, code)
	case !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=id/") || r.Header.Get("X-Amz-Content-Sha256") != digest.FromBytes(body).Encoded():
		refuse(w, "AccessDenied")
	case r.Method == http.MethodPost && q.Has("uploads"):
		id := fmt.Sprint("upload", len(b.uploads))
		b.uploads[id] = map[int][]byte{}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case r.Method == http.MethodPost:
		b.complete(w, key, q.Get("uploadId"), body)
	case r.Method == http.MethodDelete:
		delete(b.uploads, q.Get("uploadId"))
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut && q.Has("partNumber"):
		n, _ := strconv.Atoi(q.Get("partNumber"))
		b.uploads[q.Get("uploadId")][n] = body
		w.Header().Set("ETag", strconv.Itoa(n))
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		source, _ := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
		if source != "/bucket/"+key {
			refuse(w, "InvalidRequest")
			return
		}
		b.copied++
		fmt.Fprint(w, "<CopyObjectResult/>")
	case r.Method == http.MethodPut:
		b.objects[key] = body
	default:
		b.get(w, r, key)
	}
}

func (b *bucket) get(w http.ResponseWriter, r *http.Request, key string) {
	data, ok := b.objects[key]
	if !ok {
		refuse(w, "NoSuchKey")
		return
	}
	at := time.Now()
	if b.old {
		at = at.Add(-48 * time.Hour)
	}
	http.ServeContent(w, r, "", at, bytes.NewReader(data))
}

func (b *bucket) complete(w http.ResponseWriter, key, id string, body []byte) {
	var list struct{ Part []part }
	up, ok := b.uploads[id]
	if xml.Unmarshal(body, &list) != nil || !ok {
		refuse(w, "NoSuchUpload")
		return
	}
	var data []byte
	for i, p := range list.Part {
		if p.PartNumber != i+1 || p.ETag != strconv.Itoa(i+1) {
			fmt.Fprint(w, "<Error><Code>InvalidPart</Code></Error>") // with the status of a success
			return
		}
		data = append(data, up[p.PartNumber]...)
	}
	delete(b.uploads, id)
	b.objects[key] = data
	fmt.Fprint(w, "<CompleteMultipartUploadResult/>")
}

func refuse(w http.ResponseWriter, code string) {
	status := http.StatusBadRequest
	switch {
	case strings.HasPrefix(code, "NoSuch"):
		status = http.StatusNotFound
	case code == "SlowDown":
		status = http.StatusServiceUnavailable
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>as the test wants it</Message></Error>", code)
}

// blob is a blob of a size.
func blob(size int) ([]byte, ocispec.Descriptor) {
	data := bytes.Repeat([]byte("mica"), size/4+1)[:size]
	return data, ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(size)}
}

// TestBlobs: blobs of no, one and several parts come back.
func TestBlobs(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, testPart, testPart + 1, 3*testPart - 7} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			b, c := newBucket(t)
			data, d := blob(size)
			if ok, err := c.Exists(t.Context(), d); ok || err != nil {
				t.Fatal(ok, err)
			}
			if r, err := c.Fetch(t.Context(), d); size > 0 && !errors.Is(err, errdef.ErrNotFound) {
				t.Fatal(r, err)
			}
			if err := c.Push(t.Context(), d, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			if ok, err := c.Exists(t.Context(), d); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if b.objects["p/blobs/"+d.Digest.String()] == nil && size > 0 {
				t.Error("not where BuildKit looks for it")
			}
			r, err := c.Fetch(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			_ = r.Close()
			if len(b.uploads) > 0 {
				t.Error("an upload is left")
			}
		})
	}
}

// TestManifest: it is written under all names, and read under the first.
func TestManifest(t *testing.T) {
	t.Parallel()
	b, c := newBucket(t)
	if _, err := c.Manifest(t.Context()); !errors.Is(err, errdef.ErrNotFound) {
		t.Fatal(err)
	}
	if err := c.PutManifest(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Manifest(t.Context()); err != nil || string(got) != "{}" || string(b.objects["p/manifests/two"]) != "{}" {
		t.Errorf("%q, %v", got, err)
	}
	b.fault = func(*http.Request) string { return "NoSuchBucket" }
	if _, err := c.Manifest(t.Context()); err == nil || errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("without a bucket: %v", err)
	}
}

// TestFailedUploads: what could not be written whole is not there, and leaves no parts in the bucket.
func TestFailedUploads(t *testing.T) {
	t.Parallel()
	data, d := blob(2*testPart + 1)
	put := func(r *http.Request) bool {
		return r.Method == http.MethodPut && r.URL.Query().Get("partNumber") == "2"
	}
	for name, c := range map[string]struct {
		data  []byte
		fault func(*http.Request) string
		err   string
	}{
		"short": {data: data[:testPart+5], err: "EOF"},
		"long":  {data: append(bytes.Clone(data), 0), err: "more than"},
		"other": {data: append(bytes.Clone(data[1:]), 0), err: "digest"},
		"refused": {data: data, err: "AccessDenied", fault: func(r *http.Request) string {
			if put(r) {
				return "AccessDenied"
			}
			return ""
		}},
		"not completed": {data: data, err: "InternalError", fault: func(r *http.Request) string {
			if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") {
				return "InternalError"
			}
			return ""
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, cache := newBucket(t)
			b.fault = c.fault
			err := cache.Push(t.Context(), d, bytes.NewReader(c.data))
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(c.err)) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "session") {
				t.Errorf("%v, want %s", err, c.err)
			}
			if len(b.objects)+len(b.uploads) > 0 {
				t.Errorf("%d objects, %d uploads", len(b.objects), len(b.uploads))
			}
			b.fault = nil
			for range 3 { // more than the parts that can be sent at the same time: no buffer is lost
				if err := cache.Push(t.Context(), d, bytes.NewReader(data)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestBusyService: what passes is tried again, also where the answer to the end of an upload was lost.
func TestBusyService(t *testing.T) {
	t.Parallel()
	b, c := newBucket(t)
	n := 0
	b.fault = func(*http.Request) string {
		if n++; n%2 == 1 {
			return "SlowDown"
		}
		return ""
	}
	data, d := blob(testPart + 1)
	if err := c.Push(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	b.fault = func(r *http.Request) string {
		if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") {
			return "NoSuchUpload"
		}
		return ""
	}
	if err := c.Push(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Error(err)
	}
}

// TestRefresh: only what is old gets the current time.
func TestRefresh(t *testing.T) {
	t.Parallel()
	b, c := newBucket(t)
	data, d := blob(10)
	if err := c.Push(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	for _, old := range []bool{false, true} {
		b.old = old
		if ok, err := c.Exists(t.Context(), d); !ok || err != nil || (b.copied == 1) != old {
			t.Errorf("old %t: %t, %v, copied %d times", old, ok, err, b.copied)
		}
	}
}

// TestLocations: a bucket is in the name of the host, unless it cannot be or is not to be.
func TestLocations(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"https://b.s3.eu-west-1.amazonaws.com":     {Bucket: "b", Region: "eu-west-1"},
		"https://s3.eu-west-1.amazonaws.com/b.c":   {Bucket: "b.c", Region: "eu-west-1"},
		"https://b.s3.cn-north-1.amazonaws.com.cn": {Bucket: "b", Region: "cn-north-1"},
		"http://b.host:9000":                       {Bucket: "b", Region: "x", Endpoint: "http://host:9000/"},
		"http://host:9000/sub/b":                   {Bucket: "b", Region: "x", Endpoint: "http://host:9000/sub/", PathStyle: true},
	} {
		if u, err := o.bucketURL(); err != nil || u.String() != want {
			t.Errorf("%v, %v, want %s", u, err, want)
		}
	}
	for _, o := range []Options{
		{Region: "x"}, {Bucket: "b/c", Region: "x"}, {Bucket: "b", Region: "evil.example/"}, {Bucket: "b", Region: "x", Endpoint: "file:///etc"},
		{Bucket: "b", Region: "x", Endpoint: "http://user:secret@host"}, {Bucket: "b", Region: "x", Endpoint: "host"},
	} {
		if u, err := o.bucketURL(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, %v", o, u, err)
		}
	}
}

// TestHostileService: answers are limited, and what they say is quoted.
func TestHostileService(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(http.ResponseWriter){
		"endless": func(w http.ResponseWriter) {
			for range 65 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		},
		"control characters": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<Error><Code>x</Code><Message>&#27;[2J</Message></Error>")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
			defer s.Close()
			_, c := newBucket(t)
			u, err := url.Parse(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			c.base = *u
			if _, err := c.Manifest(t.Context()); err == nil || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("%q", err)
			}
		})
	}
}
