package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"

	"github.com/moby/buildkit/session"
)

// handler answers the requests that upgrade a connection, and gives all others to next. Docker's clients put the version of the API before
// the path.
func (s *Server) handler(next http.Handler, sessions *session.Manager) http.Handler {
	mux := http.NewServeMux()
	for _, prefix := range []string{"", "/{version}"} {
		mux.HandleFunc("POST "+prefix+"/grpc", s.upgradeRPC)
		mux.HandleFunc("POST "+prefix+"/session", func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			if err := sessions.HandleHTTPRequest(ctx, &sessionWriter{w, cancel}, r); err != nil {
				refuse(w, http.StatusBadRequest, err.Error())
			}
		})
	}
	if next == nil {
		next = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "page not found") })
	}
	mux.Handle("/", next)
	return mux
}

// refuse answers with an error in Docker's form.
func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message}) // the client has gone
}

// sessionWriter ends a session with its connection. By itself, the session's manager finds out by checks of health, ten seconds later, which it
// reports as errors.
type sessionWriter struct {
	http.ResponseWriter
	end context.CancelFunc
}

func (w *sessionWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	return &sessionConn{c, w.end}, buffered, err
}

type sessionConn struct {
	net.Conn
	end context.CancelFunc
}

func (c *sessionConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.end()
	}
	return n, err
}

// upgradeRPC makes a connection one of gRPC.
func (s *Server) upgradeRPC(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "h2c" {
		refuse(w, http.StatusBadRequest, "no upgrade to h2c in the request")
		return
	}
	c, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, http.StatusInternalServerError, "this connection cannot be upgraded")
		return
	}
	var head []byte
	if n := buffered.Reader.Buffered(); n > 0 {
		head = make([]byte, n)
		_, _ = buffered.Read(head) // of its buffer
	}
	if err := switchTo(c, "h2c"); err != nil {
		_ = c.Close()
		return
	}
	s.toRPC.add(&headConn{c, head})
}

// switchTo answers that the connection speaks another protocol from here on.
func switchTo(c net.Conn, protocol string) error {
	resp := &http.Response{
		StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {protocol}},
	}
	return resp.Write(c)
}
