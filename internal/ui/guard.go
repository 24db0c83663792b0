package ui

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"os"
	"strings"
)

// cookieName is the cookie that holds the token. Its path is the server's own.
const cookieName = "mica-ui"

// policy allows the page its own files, and nothing else: no scripts in text, no other hosts, no frames, no text as HTML.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// setHeaders sets what all responses have.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// guard lets through only requests of the page, of a browser that was given the token.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		switch {
		case !knownHost(r.Host):
			// A page of another site can give its own name the address of this host (DNS rebinding).
			fail(w, http.StatusMisdirectedRequest, "this name is not that of the host: use its address")
		case !strings.HasPrefix(r.URL.Path, "/"+s.space+"/"):
			fail(w, http.StatusNotFound, "open the URL that mica ui printed")
		case r.URL.Path == "/"+s.space+"/" && r.URL.Query().Has("token"):
			s.admit(w, r)
		case !s.admitted(r):
			fail(w, http.StatusUnauthorized, "open the URL that mica ui printed")
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !fromPage(r):
			fail(w, http.StatusForbidden, "the request does not come from the page")
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			next.ServeHTTP(w, r)
		}
	})
}

// knownHost reports whether a Host header names this host in a way that no other site can: by an address, as localhost, or by the
// host's own name. The port may be that of a tunnel.
func knownHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || net.ParseIP(host) != nil {
		return true
	}
	own, err := os.Hostname()
	return err == nil && own != "" && host == strings.ToLower(own)
}

func (s *Server) isToken(text string) bool {
	a, b := sha256.Sum256([]byte(text)), sha256.Sum256([]byte(s.token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (s *Server) admitted(r *http.Request) bool {
	for _, c := range r.CookiesNamed(cookieName) {
		if s.isToken(c.Value) {
			return true
		}
	}
	return false
}

// landing takes the browser from the URL with the token to the one without. It is a page, not a redirect: browsers do not send a strict
// cookie with a redirect if a link of another site led to it.
const landing = `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=./"><title>mica</title><link rel="icon" href="mica.svg"><p><a href="./">Continue</a></p>`

// admit gives a browser that has the token its cookie.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) {
	if !s.isToken(r.URL.Query().Get("token")) {
		fail(w, http.StatusUnauthorized, "the token is not valid: open the URL that mica ui printed last")
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: s.token, Path: "/" + s.space + "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}) //nolint:gosec // loopback has no TLS
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(landing))
}

// fromPage reports whether a request that changes something was made by the page: a browser sends the origin of a page with such a
// request, and no other site can send JSON without asking first.
func fromPage(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return r.Header.Get("Origin") == "http://"+r.Host && (site == "" || site == "same-origin") && r.Header.Get("Content-Type") == "application/json"
}
