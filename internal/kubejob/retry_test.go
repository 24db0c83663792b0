package kubejob

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// serverOf is a cluster whose API server gives these answers, one after the other, the last one for ever. It counts the requests.
func serverOf(t *testing.T, answers ...http.HandlerFunc) (*cluster, *int) {
	t.Helper()
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		answers[min(asked, len(answers))-1](w, r)
	}))
	t.Cleanup(s.Close)
	base, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{http: s.Client(), base: base, namespace: "n", patience: patience{time.Millisecond, 2 * time.Millisecond}}, &asked
}

func says(code int, message string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
	}
}

// hangUp closes the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// A request that the API server has no room for, or does not answer, is sent again; one that it refuses is not.
func TestRetries(t *testing.T) {
	t.Parallel()
	done := says(http.StatusOK, "")
	for name, c := range map[string]struct {
		answers []http.HandlerFunc
		asked   int
		code    int // of the error, 0 for success
	}{
		"busy":                    {[]http.HandlerFunc{says(429, "", "Retry-After", "1"), says(503, ""), done}, 3, 0},
		"no answer":               {[]http.HandlerFunc{hangUp, done}, 2, 0},
		"an error with a time":    {[]http.HandlerFunc{says(500, "", "Retry-After", "1"), done}, 2, 0},
		"an error without a time": {[]http.HandlerFunc{says(500, "broken")}, 1, 500},
		"refused":                 {[]http.HandlerFunc{says(403, "no")}, 1, 403},
		"busy for ever":           {[]http.HandlerFunc{says(429, "")}, maxTries, 429},
	} {
		k, asked := serverOf(t, c.answers...)
		err := k.post(t.Context(), k.pods(), object{})
		var status *StatusError
		if errors.As(err, &status) != (c.code != 0) || status != nil && status.Code != c.code || *asked != c.asked {
			t.Errorf("%s: %v after %d requests, want %d", name, err, *asked, c.asked)
		}
	}
}

// The time between tries grows, has jitter, and is not less than what the server asks for.
func TestWait(t *testing.T) {
	t.Parallel()
	p := patience{firstWait, maxWait}
	for try, least := range []time.Duration{firstWait, 2 * firstWait, 4 * firstWait} {
		got, again := p.wait(io.ErrUnexpectedEOF, try)
		if !again || got < least || got > 2*least {
			t.Errorf("try %d waits for %s", try, got)
		}
	}
	if _, again := p.wait(errors.New("x509: unknown authority"), 0); again {
		t.Error("an error of no connection is tried again")
	}
	if got, _ := p.wait(&StatusError{Code: 429, retryAfter: 10 * time.Second}, 0); got < 10*time.Second || got > 20*time.Second {
		t.Errorf("10 s were asked for, it waits for %s", got)
	}
	if got, _ := p.wait(&StatusError{Code: 429, retryAfter: time.Hour}, maxTries-2); got > 2*maxWait {
		t.Errorf("an hour was asked for, it waits for %s", got)
	}
	for value, want := range map[string]time.Duration{"": 0, "3": 3 * time.Second, "-1": 0, "x": 0, "999999999999": time.Hour} {
		if got := retryAfter(http.Header{"Retry-After": {value}}); got != want {
			t.Errorf("%q is %s, want %s", value, got, want)
		}
	}
}

// A Job whose creation is not answered is created once, and one of another's name is an error.
func TestJobIsCreatedOnce(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	first := func(w http.ResponseWriter, r *http.Request) {
		var job struct{ Metadata struct{ Name string } }
		_ = json.NewDecoder(r.Body).Decode(&job)
		names[job.Metadata.Name] = true
		hangUp(w, r)
	}
	taken := says(http.StatusConflict, "exists")
	k, _ := serverOf(t, first, taken)
	name, err := k.createJob(t.Context(), object{"metadata": object{}})
	if err != nil || len(names) != 1 || !names[name] {
		t.Errorf("%q, %v; %v were asked for", name, err, names)
	}
	k, _ = serverOf(t, taken)
	if _, err := k.createJob(t.Context(), object{"metadata": object{"name": "mine"}}); err == nil {
		t.Error("a Job of that name exists")
	}
}

// A namespace whose quota is used up admits the pod later; one that refuses the pod does not.
func TestQuota(t *testing.T) {
	t.Parallel()
	full := says(http.StatusForbidden, `pods "x" is forbidden: exceeded quota: pods, requested: pods=1, used: pods=5, limited: pods=5`)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		admits bool
	}{
		"used up": {full, true},
		"refused": {says(http.StatusForbidden, "violates PodSecurity"), false},
	} {
		k, _ := serverOf(t, c.answer)
		if err := k.tryPod(t.Context(), object{}); (err == nil) != c.admits {
			t.Errorf("%s: %v", name, err)
		}
	}
}
