package ui

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestGuard: only the page of this server, in a browser that was given the token, gets an answer.
func TestGuard(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Del(name)
			if value != "" {
				r.Header.Set(name, value)
			}
		}
	}
	host := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Host = name; r.Header.Set("Origin", "http://"+name) }
	}
	own, _ := os.Hostname()
	for name, tt := range map[string]struct {
		method, path string
		change       func(*http.Request)
		want         int
	}{
		"the page":                        {http.MethodGet, "", nil, 200},
		"data":                            {http.MethodGet, "api/images", nil, 200},
		"no cookie":                       {http.MethodGet, "api/images", header("Cookie", ""), 401},
		"no cookie for the page":          {http.MethodGet, "", header("Cookie", ""), 401},
		"no cookie for a script":          {http.MethodGet, "app.js", header("Cookie", ""), 401},
		"another token":                   {http.MethodGet, "api/images", header("Cookie", cookieName+"="+strings.Repeat("0", 64)), 401},
		"the beginning of the token":      {http.MethodGet, "api/images", header("Cookie", cookieName+"="+l.token[:32]), 401},
		"an empty token":                  {http.MethodGet, "api/images", header("Cookie", cookieName+"="), 401},
		"a second cookie":                 {http.MethodGet, "api/images", header("Cookie", cookieName+"=x; "+cookieName+"="+l.token), 200},
		"the token in a query":            {http.MethodGet, "api/images?token=" + l.token, header("Cookie", ""), 401},
		"localhost":                       {http.MethodGet, "api/images", host("localhost:1234"), 200},
		"loopback of IPv6":                {http.MethodGet, "api/images", host("[::1]:1234"), 200},
		"the host's name":                 {http.MethodGet, "api/images", host(own), 200},
		"a name with our address":         {http.MethodGet, "api/images", host("evil.example:80"), 421},
		"a name that begins as ours":      {http.MethodGet, "api/images", host("127.0.0.1.evil.example"), 421},
		"a name that ends as ours":        {http.MethodGet, "api/images", host("evil.localhost"), 421},
		"no host":                         {http.MethodPost, "api/cache/prune", host("evil"), 421},
		"a change":                        {http.MethodPost, "api/cache/prune", nil, 200},
		"a change from elsewhere":         {http.MethodPost, "api/cache/prune", header("Origin", "http://evil.example"), 403},
		"a change from another port":      {http.MethodPost, "api/cache/prune", header("Origin", "http://127.0.0.1:1"), 403},
		"a change from nowhere":           {http.MethodPost, "api/cache/prune", header("Origin", ""), 403},
		"a change from a sandbox":         {http.MethodPost, "api/cache/prune", header("Origin", "null"), 403},
		"a change as a form":              {http.MethodPost, "api/cache/prune", header("Content-Type", "text/plain"), 403},
		"a change of another site":        {http.MethodPost, "api/cache/prune", header("Sec-Fetch-Site", "cross-site"), 403},
		"a change of another port's site": {http.MethodPost, "api/cache/prune", header("Sec-Fetch-Site", "same-site"), 403},
		"a change of the page":            {http.MethodPost, "api/cache/prune", header("Sec-Fetch-Site", "same-origin"), 200},
		"a change without a cookie":       {http.MethodPost, "api/cache/prune", header("Cookie", ""), 401},
		"a change by GET":                 {http.MethodGet, "api/cache/prune", nil, 404},
		"another method":                  {http.MethodDelete, "api/images", header("Origin", ""), 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := l.request(tt.method, tt.path, `{"all":true}`)
			if tt.change != nil {
				tt.change(req)
			}
			res, text := l.do(req)
			if res.StatusCode != tt.want {
				t.Errorf("%s %.200s, want %d", res.Status, text, tt.want)
			}
			for name, want := range map[string]string{
				"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
				"Access-Control-Allow-Origin": "",
			} {
				if got := res.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if strings.Contains(text, l.token) {
				t.Error("the answer has the token")
			}
		})
	}
}

// TestOutside: the server tells nothing to those who do not know its path.
func TestOutside(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, path := range []string{"/", "/api/images", "/" + l.space, "/" + strings.Repeat("0", 16) + "/api/images", "/?token=" + l.token} {
		req := l.request(http.MethodGet, "", "")
		req.URL.Path, req.URL.RawQuery, _ = strings.Cut(path, "?")
		if res, text := l.do(req); res.StatusCode != http.StatusNotFound || strings.Contains(text, l.space) {
			t.Errorf("%s: %s %s", path, res.Status, text)
		}
	}
}

// TestAdmit: the URL with the token gives a cookie that scripts do not see, and that no other site and no other path gets; another
// token gives none.
func TestAdmit(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	req := l.request(http.MethodGet, "?token="+l.token, "")
	req.Header.Del("Cookie")
	res, text := l.do(req)
	cookies := res.Cookies
	if res.StatusCode != http.StatusOK || len(cookies) != 1 || strings.Contains(text, l.token) {
		t.Fatalf("%s, cookies %v: %s", res.Status, cookies, text)
	}
	if c := cookies[0]; c.Value != l.token || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/"+l.space+"/" || c.Domain != "" || !c.Expires.IsZero() {
		t.Errorf("cookie %+v", c)
	}
	for _, token := range []string{"", "x", l.token + "0", l.token[1:], l.space} {
		req := l.request(http.MethodGet, "?token="+token, "")
		if res, _ := l.do(req); res.StatusCode != http.StatusUnauthorized || len(res.Cookies) > 0 {
			t.Errorf("token %q: %s, cookies %v", token, res.Status, res.Cookies)
		}
	}
	if other := newLab(t); other.token == l.token || other.space == l.space || len(l.token) != 64 {
		t.Error("two servers have one token")
	}
}

// TestURL: the URL is one that a browser can open.
func TestURL(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for addr, want := range map[string]string{"127.0.0.1:80": "127.0.0.1:80", "[::1]:80": "[::1]:80", "0.0.0.0:80": "localhost:80", "[::]:80": "localhost:80", "10.1.2.3:80": "10.1.2.3:80"} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.URL(a); got != "http://"+want+"/"+l.space+"/?token="+l.token {
			t.Errorf("%s: %s", addr, got)
		}
	}
	for addr, want := range map[string]bool{
		"127.0.0.1:0": true, "127.9.9.9:80": true, "[::1]:0": true, "localhost:80": true, "0.0.0.0:0": false, ":80": false, "[::]:0": false, "10.0.0.1:0": false,
		"example.com:80": false, "127.0.0.1": false, "": false, "localhost.example.com:1": false,
	} {
		if IsLoopback(addr) != want {
			t.Errorf("IsLoopback(%q) is %t", addr, !want)
		}
	}
}

// TestLimits: a request larger than the page sends is refused.
func TestLimits(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if status, text := l.post("cache/prune", `{"until":"`+strings.Repeat("1", maxBody)+`"}`); status != http.StatusBadRequest {
		t.Errorf("%d %.100s", status, text)
	}
}
