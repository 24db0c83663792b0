package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// response is the error of a response with a status and a message.
func response(method string, status int, message string) error {
	e := &errcode.ErrorResponse{Method: method, URL: &url.URL{Scheme: "https", Host: "registry.example"}, StatusCode: status}
	if message != "" {
		e.Errors = errcode.Errors{{Code: "DENIED", Message: message}}
	}
	return e
}

func TestExplain(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"none":        {nil, ""},
		"canceled":    {context.Canceled, "context canceled"},
		"not found":   {fmt.Errorf("manifest: %w", errdef.ErrNotFound), "manifest for host.example/app:1 not found: manifest unknown"},
		"404":         {response("GET", 404, "x"), "manifest for host.example/app:1 not found: manifest unknown"},
		"denied":      {response("GET", 403, "too bad"), "access to host.example/app:1 denied: denied: too bad (the repository may not exist, or need 'mica login host.example')"},
		"no message":  {response("GET", 401, ""), "access to host.example/app:1 denied: the repository does not exist or needs 'mica login host.example'"},
		"no password": {auth.ErrBasicCredentialNotFound, "access to host.example/app:1 denied: the repository does not exist or needs 'mica login host.example'"},
		"500":         {response("GET", 500, ""), "host.example/app:1: registry registry.example responds 500: Internal Server Error"},
		"418":         {response("GET", 418, "tea"), "host.example/app:1: registry registry.example responds 418: denied: tea"},
		"no such host": {&url.Error{Op: "Get", URL: "https://x.example/v2/", Err: &net.DNSError{Name: "x.example", Err: "no such host", IsNotFound: true}},
			"host.example/app:1: registry x.example cannot be reached: dial tcp: lookup x.example: no such host"},
		"no resolver": {&url.Error{Op: "Get", URL: "https://x.example/v2/", Err: &net.DNSError{Name: "x.example", Err: "server misbehaving"}},
			"host.example/app:1: registry x.example cannot be reached: dial tcp: lookup x.example: server misbehaving"},
		"refused": {&url.Error{Op: "Get", URL: "https://x.example/v2/", Err: dial}, "host.example/app:1: registry x.example cannot be reached: connection refused"},
		"broken":  {&url.Error{Op: "Get", URL: "https://x.example/v2/", Err: io.ErrUnexpectedEOF}, "host.example/app:1: x.example: unexpected EOF"},
		"other":   {errors.New("odd"), "host.example/app:1: odd"},
		"known":   {&DeniedError{Host: "h", Ref: "r", Said: "no"}, "access to r denied: no (the repository may not exist, or need 'mica login h')"},
	} {
		err := Explain("host.example/app:1", test.err)
		if got := fmt.Sprint(err); got != test.want && (err != nil || test.want != "") {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		if again := Explain("host.example/app:1", errors.Unwrap(err)); test.err == nil && again != nil {
			t.Errorf("%s: %v", name, again)
		}
	}
}

func TestIsLocal(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"full disk": {&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, true},
		"wrapped":   {fmt.Errorf("layer: %w", &fs.PathError{Op: "open", Path: "x", Err: os.ErrPermission}), true},
		"network":   {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, false},
		"registry":  {response("GET", 500, ""), false},
	} {
		if got := IsLocal(test.err); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err          error
		send, upload bool // whether a request is repeated, and an upload started anew
	}{
		"reset":              {&url.Error{Op: "Put", Err: syscall.ECONNRESET}, true, true},
		"reset at the start": {&url.Error{Op: "Post", Err: syscall.ECONNRESET}, true, false},
		"canceled":           {&url.Error{Op: "Put", Err: context.Canceled}, false, false},
		"no such host":       {&url.Error{Op: "Put", Err: &net.DNSError{IsNotFound: true}}, false, false},
		"name server down":   {&url.Error{Op: "Put", Err: &net.DNSError{IsTemporary: true}}, true, true},
		"unknown authority":  {&url.Error{Op: "Put", Err: x509.UnknownAuthorityError{}}, false, false},
		"another host name":  {&url.Error{Op: "Put", Err: x509.HostnameError{Certificate: &x509.Certificate{}}}, false, false},
		"too slow":           {&url.Error{Op: "Put", Err: errTooSlow}, false, false},
		"permanent":          {&url.Error{Op: "Put", Err: &permanentError{io.ErrUnexpectedEOF}}, false, false},
		"broken response":    {&brokenError{io.ErrUnexpectedEOF}, true, true},
		"503":                {response("PATCH", 503, ""), true, true},
		"503 at the start":   {response("POST", 503, ""), true, false},
		"upload is gone":     {response("PATCH", 404, ""), true, true},
		"another range":      {response("PUT", 416, ""), true, true},
		"refused":            {response("PUT", 400, ""), true, false},
	} {
		if got := worthRetry(test.err); got != test.send {
			t.Errorf("%s: repeated: %v", name, got)
		}
		if got := uploadAgain(test.err); got != test.upload {
			t.Errorf("%s: started anew: %v", name, got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"": -1, "x": -1, "-5": -1, "0": 0, "7": 7 * time.Second, time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): 0,
	} {
		got, ok := retryAfter(http.Header{"Retry-After": {value}})
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %v, %v", value, got, ok)
		}
	}
	later := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	if got, ok := retryAfter(http.Header{"Retry-After": {later}}); !ok || got < 59*time.Minute {
		t.Errorf("%q: %v, %v", later, got, ok)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := backoff(firstWait)
	for attempt, most := range []time.Duration{firstWait, 2 * firstWait, 4 * firstWait, 8 * firstWait} {
		if got := b.wait(attempt); got < most/2 || got > most {
			t.Errorf("before try %d: %s", attempt, got)
		}
	}
	if got := b.wait(20); got > maxWait {
		t.Errorf("at last: %s", got)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	few := func(page, i int) string { return strconv.Itoa(page*2 + i) }
	for name, test := range map[string]struct {
		pages int
		entry func(page, i int) string
		size  int
		want  string // of the error; "" for none
	}{
		"some":        {10, few, 2, ""},
		"the same":    {2, func(_, i int) string { return strconv.Itoa(i) }, 2, "circles"},
		"some empty":  {maxIdle, few, 0, ""},
		"many empty":  {maxIdle + 1, few, 0, "empty pages"},
		"many pages":  {maxPages + 1, few, 1, "pages"},
		"one is more": {2, func(page, i int) string { return strconv.Itoa(page * i) }, 2, ""},
	} {
		p, err := newPages(), error(nil)
		for page := 0; page < test.pages && err == nil; page++ {
			var list []string
			for i := range test.size {
				list = append(list, test.entry(page, i))
			}
			err = p.add(list)
		}
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestSameOrigin(t *testing.T) {
	t.Parallel()
	for pair, want := range map[string]bool{
		"https://a.example/x https://a.example/y":       true,
		"https://a.example/x https://a.example:443/":    true,
		"http://a.example:80/ http://A.example/":        true,
		"https://a.example/ http://a.example/":          false,
		"https://a.example/ https://b.example/":         false,
		"https://a.example:5000/ https://a.example/":    false,
		"http://[::1]:5000/ http://[::1]:5000/v2/":      true,
		"https://user@a.example/ https://a.example/?x=": true,
	} {
		a, b, _ := strings.Cut(pair, " ")
		first, err1 := url.Parse(a)
		second, err2 := url.Parse(b)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if got := sameOrigin(first, second); got != want {
			t.Errorf("%s: %v", pair, got)
		}
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "x.localhost:5000": true, "127.0.0.1:5000": true, "127.1.2.3": true, "[::1]:5000": true, "[::1]": true,
		"0.0.0.0:5000": false, "10.0.0.1": false, "localhost.example": false, "registry.example:443": false, "": false,
	} {
		if got := isLoopback(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestChooseChallenge(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		values []string
		want   string
	}{
		"token first":     {[]string{`Bearer realm="x"`, "Basic"}, `Bearer realm="x"`},
		"password first":  {[]string{"Basic", `Bearer realm="x"`}, `Bearer realm="x"`},
		"others first":    {[]string{"Negotiate", `basic realm="x"`}, `basic realm="x"`},
		"only others":     {[]string{"Negotiate"}, "Negotiate"},
		"none":            {nil, ""},
		"an odd password": {[]string{"Bas", "BASIC"}, "BASIC"},
	} {
		h := http.Header{"Www-Authenticate": test.values}
		chooseChallenge(h)
		if got := h.Get("Www-Authenticate"); got != test.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
