package engineapi

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.image("one", "a:1", "a:2"), r.image("two", "b:1")
	saved, err := r.ImageSave(t.Context(), []string{"a", b})
	if err != nil {
		t.Fatal(err)
	}
	tar, err := io.ReadAll(saved)
	if err != nil {
		t.Fatal(err)
	}
	resp, one := r.do(http.MethodGet, "/images/a:1/get", nil)
	if resp.Header.Get("Content-Type") != "application/x-tar" || len(one) == 0 || len(one) >= len(tar) {
		t.Errorf("%v, %d bytes", resp.Header, len(one))
	}
	other := newRig(t)
	loaded, err := other.ImageLoad(t.Context(), bytes.NewReader(tar))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := text(other.messages(loaded)), "Loaded image: a:1\nLoaded image: a:2\nLoaded image ID: "+b+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, err := other.ImageInspect(t.Context(), "a:2"); err != nil || got.ID != a {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := r.ImageSave(t.Context(), []string{"a", "none"}); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	for _, path := range []string{"/images/get", "/v1.51/images/get?names=a&platform=linux/amd64&platform=linux/arm64", `/images/a/get?platform={"os":1}`} {
		if resp, body := r.do(http.MethodGet, path, nil); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s, %s", path, resp.Status, body)
		}
	}
}

// TestLoadDamaged: the error is in the answer, and nothing of the archive stays.
func TestLoadDamaged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, data := range map[string]string{"text": "no archive", "empty": "", "a tar": string(archive(t, "x", "y"))} {
		loaded, err := r.ImageLoad(t.Context(), strings.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if got := text(r.messages(loaded)); !strings.HasPrefix(got, "ERROR load: ") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := r.names(client.ImageListOptions{}); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive(t, "f", "x")) }))
	defer web.Close()
	got, err := r.ImageImport(t.Context(), client.ImageImportSource{SourceName: strings.Replace(web.URL, "http://", "http://user:secret@", 1) + "/root.tar"}, "a", client.ImageImportOptions{Tag: "7"})
	if err != nil {
		t.Fatal(err)
	}
	messages := r.messages(got)
	img, err := r.ImageInspect(t.Context(), "a:7")
	if err != nil || len(messages) != 1 || img.ID != messages[0].Status || !strings.HasPrefix(img.Comment, "Imported from http://") || strings.Contains(img.Comment, "secret") {
		t.Errorf("%+v, %v, %v", messages, img.Comment, err)
	}
	for path, c := range map[string]struct {
		status int
		says   string
	}{
		"/images/create?fromSrc=/etc":                     {400, "fromSrc is neither a URL nor -"},
		"/images/create?fromSrc=-&repo=Upper":             {400, "must be lowercase"},
		"/images/create?fromSrc=-&changes=DANCE":          {400, "DANCE is not a valid change command"},
		"/images/create?fromSrc=-&platform=a/b/c/d":       {400, "invalid platform"},
		"/images/create?fromSrc=" + web.URL + "1/&repo=x": {500, "import: "},
	} {
		if resp, body := r.do(http.MethodPost, path, strings.NewReader("")); resp.StatusCode != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %s, %s", path, resp.Status, body)
		}
	}
}
