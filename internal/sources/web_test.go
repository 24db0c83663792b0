package sources_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/sources"
)

func TestFetch(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, "text")
	}))
	defer web.Close()
	body, err := sources.Fetch(t.Context(), web.URL+"/yes")
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil || string(data) != "text" {
		t.Errorf("%q, %v", data, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for url, ctx := range map[string]context.Context{web.URL + "/no": t.Context(), "http://\x7f": t.Context(), web.URL: ended} {
		if _, err := sources.Fetch(ctx, url); err == nil || !strings.HasPrefix(err.Error(), url+": ") {
			t.Errorf("%s: %v", url, err)
		}
	}
	for s, want := range map[string]bool{"http://a": true, "https://a": true, "ftp://a": false, "a": false, "httpx": false} {
		if sources.IsWebURL(s) != want {
			t.Errorf("%s: %t", s, !want)
		}
	}
}
