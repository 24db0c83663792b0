package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/moby/buildkit/session"

	"github.com/micabuild/mica/internal/grpcserver"
)

// handler answers the requests that upgrade a connection, and gives all others to next. Docker's clients put the version of the API before
// the path.
func (s *Server) handler(next http.Handler, sessions *session.Manager) http.Handler {
	mux := http.NewServeMux()
	for _, prefix := range []string{"", "/{version}"} {
		mux.HandleFunc("POST "+prefix+"/grpc", s.upgradeRPC)
		mux.HandleFunc("POST "+prefix+"/session", func(w http.ResponseWriter, r *http.Request) {
			upgradeSession(w, r, sessions)
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

// headerSessionID is the header of a session's ID.
const headerSessionID = "X-Docker-Expose-Session-Uuid"

// upgradeSession makes a connection that of a session. The manager's own handler would write the answer while no other session can be found:
// a client that reads nothing would stop those of all others.
func upgradeSession(w http.ResponseWriter, r *http.Request, sessions *session.Manager) {
	id := r.Header.Get(headerSessionID)
	switch proto := r.Header.Get("Upgrade"); {
	case proto == "":
		refuse(w, http.StatusBadRequest, "no upgrade proto in request")
		return
	case proto != "h2c":
		refuse(w, http.StatusBadRequest, fmt.Sprintf("protocol %s not supported", proto))
		return
	}
	if known, err := sessions.Get(r.Context(), id, true); err == nil && known != nil {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("session %s already exists", id))
		return
	}
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, http.StatusInternalServerError, "this connection cannot be upgraded")
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if err := switchTo(c, "h2c"); err == nil {
		_ = sessions.HandleConn(ctx, &sessionConn{c, cancel}, r.Header) // the connection has failed
	}
	_ = c.Close()
}

// sessionConn ends a session with its connection. By itself, the session's manager finds out by checks of health, ten seconds later, which it
// reports as errors.
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
	s.toRPC.add(grpcserver.Upgrade(&headConn{c, head}))
}

// switchTo answers that the connection speaks another protocol from here on.
func switchTo(c net.Conn, protocol string) error {
	resp := &http.Response{
		StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {protocol}},
	}
	if err := c.SetWriteDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	if err := resp.Write(c); err != nil {
		return err
	}
	return c.SetWriteDeadline(time.Time{})
}
