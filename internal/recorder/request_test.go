package recorder

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/history"
)

// TestRequest: what the history has of a request has no credentials.
func TestRequest(t *testing.T) {
	t.Parallel()
	r := &Recorder{secrets: newSecrets(nil)}
	got := r.request(&history.Request{Frontend: "dockerfile.v0", Attrs: map[string]string{
		"target": "a", "build-arg:PASSWORD": "secret", "build-arg:HTTP_PROXY": "http://secret@proxy", "context": "https://user:secret@host/x.git",
		"cache-imports": `[{"Type":"s3","Attrs":{"secret_access_key":"secret"}}]`,
	}})
	want := &history.Request{Frontend: "dockerfile.v0", Attrs: map[string]string{"target": "a", "context": "https://xxxxx:xxxxx@host/x.git"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
