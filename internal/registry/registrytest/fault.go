package registrytest

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"
)

// Fault responds to a request wrongly. next is the handler that would respond rightly.
type Fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// altered changes the whole response of next before it is sent.
func altered(change func(*httptest.ResponseRecorder)) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		change(rec)
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}
}

// Status responds with a code and header fields, in pairs.
func Status(code int, header ...string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		Refuse(w, code, "UNKNOWN")
	}
}

// Cut sends the first n bytes of the right response and breaks the connection.
func Cut(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		begin(w, r, next, n)
		panic(http.ErrAbortHandler)
	}
}

// Hold sends the first n bytes of the right response, and then nothing until release is closed.
func Hold(n int, release <-chan struct{}) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		begin(w, r, next, n)
		<-release
		panic(http.ErrAbortHandler)
	}
}

// begin sends the first n bytes of a response.
func begin(w http.ResponseWriter, r *http.Request, next http.Handler, n int) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	maps.Copy(w.Header(), rec.Header())
	w.Header().Set("Content-Length", strconv.Itoa(rec.Body.Len()))
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes()[:min(n, rec.Body.Len())])
	_ = http.NewResponseController(w).Flush()
}

// Hangup breaks the connection before any response; what the client sends is not read.
func Hangup(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// CutUpload reads n bytes of what the client sends and breaks the connection.
func CutUpload(n int64) Fault {
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.CopyN(io.Discard, r.Body, n)
		panic(http.ErrAbortHandler)
	}
}

// Short sends a body that lacks its last n bytes, with the length to match: nothing looks broken.
func Short(n int) Fault {
	return altered(func(a *httptest.ResponseRecorder) {
		a.Body.Truncate(max(0, a.Body.Len()-n))
		a.Header().Set("Content-Length", strconv.Itoa(a.Body.Len()))
	})
}

// Long sends n bytes more than there are.
func Long(n int) Fault {
	return altered(func(a *httptest.ResponseRecorder) {
		a.Body.Write(make([]byte, n))
		a.Header().Set("Content-Length", strconv.Itoa(a.Body.Len()))
	})
}

// Flip changes one byte in the middle of the body.
func Flip() Fault {
	return altered(func(a *httptest.ResponseRecorder) {
		if b := a.Body.Bytes(); len(b) > 0 {
			b[len(b)/2] ^= 1
		}
	})
}

// Header replaces header fields of the right response, in pairs; "" removes one.
func Header(pairs ...string) Fault {
	return altered(func(a *httptest.ResponseRecorder) {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i+1] == "" {
				a.Header().Del(pairs[i])
			} else {
				a.Header().Set(pairs[i], pairs[i+1])
			}
		}
	})
}

// Chunked sends the right response in chunks, without its length or digest.
func Chunked(w http.ResponseWriter, r *http.Request, next http.Handler) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	maps.Copy(w.Header(), rec.Header())
	w.Header().Del("Content-Length")
	w.Header().Del("Docker-Content-Digest")
	w.WriteHeader(rec.Code)
	_ = http.NewResponseController(w).Flush()
	_, _ = w.Write(rec.Body.Bytes())
}

// Says refuses with a body of a type.
func Says(code int, mediaType, body string, header ...string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", mediaType)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// Huge responds 200 with n bytes of JSON white space, of a type.
func Huge(mediaType string, n int) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Content-Length", strconv.Itoa(n))
		block := bytes.Repeat([]byte(" "), 1<<16)
		for n > 0 {
			k, err := w.Write(block[:min(n, len(block))])
			if err != nil {
				return
			}
			n -= k
		}
	}
}

// Redirect sends the client to the same path at another server.
func Redirect(base string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, base+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	}
}

// SlowLine sends the right response over a line where one connection does not reach the whole speed.
func SlowLine(w http.ResponseWriter, r *http.Request, next http.Handler) {
	next.ServeHTTP(&SlowWriter{ResponseWriter: w}, r)
}

// SlowWriter writes the first slowBytes of a response at 40 MB/s at most. Clients judge the speed by fewer, so the rest need not
// take a test's time.
type SlowWriter struct {
	http.ResponseWriter
	written int
}

const slowBytes = 12 << 20

func (w *SlowWriter) Write(p []byte) (int, error) {
	slow := max(0, min(len(p), slowBytes-w.written))
	time.Sleep(time.Duration(slow) * time.Second / 40e6)
	w.written += len(p)
	return w.ResponseWriter.Write(p)
}

// NoRanges is a registry that does not support ranges.
func NoRanges(w http.ResponseWriter, r *http.Request, next http.Handler) {
	r.Header.Del("Range")
	Header("Accept-Ranges", "")(w, r, next)
}

// Wrong responds with another body and the right header.
func Wrong(mediaType string, body []byte) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	}
}

// On injects a fault into the requests of a method and kind, from the first to the last given, counted from 1. Without a
// last one, it is 0.
func On(method string, kind Kind, first, last int, fault Fault) func(Request) Fault {
	return func(r Request) Fault {
		if r.Method == method && r.Kind == kind && r.Nth >= first && (last == 0 || r.Nth <= last) {
			return fault
		}
		return nil
	}
}

// Always injects a fault into all requests.
func Always(fault Fault) func(Request) Fault { return func(Request) Fault { return fault } }

// Sending is On for the requests that carry the bytes of a blob.
func Sending(first, last int, fault Fault) func(Request) Fault {
	return func(r Request) Fault {
		if f := On(http.MethodPatch, Upload, first, last, fault)(r); f != nil {
			return f
		}
		return On(http.MethodPut, Upload, first, last, fault)(r)
	}
}

// Lost handles the request, and breaks the connection in place of a response.
func Lost(_ http.ResponseWriter, r *http.Request, next http.Handler) {
	next.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// Password responds 401 to requests without a user name and password.
func Password(user, password string) func(Request) Fault {
	return func(Request) Fault {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
				Status(http.StatusUnauthorized, "WWW-Authenticate", `Basic realm="tests"`)(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		}
	}
}
