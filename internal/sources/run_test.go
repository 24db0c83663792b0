package sources

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
)

// TestManyRefs: a server that has more refs of a name than anybody makes is not read to its end.
func TestManyRefs(t *testing.T) {
	t.Parallel()
	const sha = "1111111111111111111111111111111111111111"
	r := newRepository(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			_, _ = fmt.Fprint(w, packet("# service=git-upload-pack\n"), "0000", packet(sha+" refs/heads/main\x00\n"))
			name := strings.Repeat("n", 1000)
			for i := 0; i <= maxOutput/len(name); i++ {
				if _, err := fmt.Fprint(w, packet(fmt.Sprintf("%s refs/heads/%08d%s/main\n", sha, i, name))); err != nil {
					return
				}
			}
			_, _ = fmt.Fprint(w, "0000")
		})
	})
	src, err := newFetcher(t).Open("git://"+r.rest+"#main", r.attrs())
	if err != nil {
		t.Fatal(err)
	}
	if pin, err := src.Pin(t.Context()); err == nil || !strings.Contains(err.Error(), "git has written more than 16 MiB") {
		t.Errorf("%s, %v", pin, err)
	}
}

// packet is a line as git's protocol has it.
func packet(line string) string { return fmt.Sprintf("%04x%s", len(line)+4, line) }

// TestRefPattern: a ref that git takes for a pattern is not asked for.
func TestRefPattern(t *testing.T) {
	t.Parallel()
	r := newRepository(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the server is asked") })
	})
	for _, ref := range []string{"*", "v?", "[a-z]", `a\b`} {
		src, err := newFetcher(t).Open("git://"+r.rest+"#"+ref, r.attrs())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := src.Pin(t.Context()); err == nil || !strings.Contains(err.Error(), "repository does not contain ref "+ref) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

// TestLimitedOutput: what is too much is reported and dropped, and the program is not kept waiting.
func TestLimitedOutput(t *testing.T) {
	t.Parallel()
	var kept bytes.Buffer
	var errs []error
	o := &limitedOutput{w: &kept, exceeded: func(err error) { errs = append(errs, err) }}
	for _, size := range []int{maxOutput, 1} {
		if n, err := o.Write(make([]byte, size)); n != size || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if kept.Len() != maxOutput || len(errs) != 1 {
		t.Errorf("%d bytes, %v", kept.Len(), errs)
	}
}

// TestSecretsBeforeLock: the client is asked for secrets while others can use the repository.
func TestSecretsBeforeLock(t *testing.T) {
	t.Parallel()
	r := newRepository(t, nil)
	f, asked := newFetcher(t), 0
	f.Secret = func(context.Context, string) ([]byte, error) {
		asked++
		lock, ok, err := f.Store.TryLock(GitLock + key(r.url))
		if err != nil || !ok {
			t.Errorf("the repository is locked: %v", err)
			return nil, fs.ErrNotExist
		}
		if err := lock.Unlock(); err != nil {
			t.Error(err)
		}
		return nil, fs.ErrNotExist
	}
	// A commit is not looked up: the first to ask is Fetch.
	if _, _, err := fetch(t, f, "git://"+r.rest+"#"+r.git("rev-parse", "HEAD"), r.attrs(pb.AttrAuthTokenSecret, "TOKEN")); err != nil || asked == 0 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}
