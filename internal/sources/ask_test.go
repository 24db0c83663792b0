package sources

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// TestAsk: what Fetch needs of the client is asked for before it, once, whether the client answers or not.
func TestAsk(t *testing.T) {
	t.Parallel()
	r := newRepository(t, nil)
	commit := r.commit("file", "two")
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "content") })
	sum := digest.FromString("content").String()
	for name, c := range map[string]struct {
		identifier string
		attrs      map[string]string
		asked      string
	}{
		"file":           {url, map[string]string{pb.AttrHTTPChecksum: sum, pb.AttrHTTPAuthHeaderSecret: "auth"}, "auth"},
		"file of a host": {url, map[string]string{pb.AttrHTTPChecksum: sum}, "HTTP_AUTH_HEADER_127.0.0.1 HTTP_AUTH_TOKEN_127.0.0.1"},
		"commit":         {"git://" + r.rest + "#" + commit, r.attrs(pb.AttrAuthTokenSecret, "token"), "token." + hostOf(r.url)},
		"agent":          {"git://" + r.rest + "#" + commit, r.attrs(pb.AttrMountSSHSock, "key"), "key"},
		"blob":           {"docker-image+blob://host/r@" + sum, nil, "host/r"},
		"bundle": {
			"git://" + r.rest + "#" + commit, r.attrs(pb.AttrGitChecksum, commit, pb.AttrGitBundle, "docker-image+blob://host/bundle@"+sum), "host/bundle",
		},
	} {
		for _, fails := range []bool{false, true} {
			f := newFetcher(t)
			var asked []string
			ask := func(what string) (io.ReadCloser, error) {
				if asked = append(asked, what); fails {
					return nil, errors.New("no answer")
				}
				return io.NopCloser(strings.NewReader("content")), nil
			}
			f.Secret = func(_ context.Context, id string) ([]byte, error) {
				_, err := ask(id)
				return []byte("basic x"), err
			}
			f.SSH = func(_ context.Context, id string) func(net.Conn) {
				_, _ = ask(id)
				return nil
			}
			f.Blob = func(_ context.Context, ref BlobRef) (io.ReadCloser, error) { return ask(ref.Name) }
			src, err := f.Open(c.identifier, c.attrs)
			if err == nil {
				_, err = src.Pin(t.Context())
			}
			if err != nil || len(asked) > 0 || !src.Asks() {
				t.Fatalf("%s: %v, asked for %q", name, err, asked)
			}
			src.Ask(t.Context())
			err = src.Fetch(t.Context(), t.TempDir())
			if err := src.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			want := c.asked
			if fails {
				want, _, _ = strings.Cut(want, " ")
			}
			if got := strings.Join(asked, " "); got != want {
				t.Errorf("%s: asked for %q, want %q", name, got, want)
			}
			unanswered := err != nil && strings.Contains(err.Error(), "no answer")
			if unanswered != (fails && name != "agent") || err != nil && !fails && name != "bundle" { // which has other content
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
