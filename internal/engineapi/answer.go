package engineapi

import (
	"context"
	"net/http"
	"time"

	"github.com/micabuild/mica/internal/crash"
)

// patience is how long a client may read nothing of an answer. A request holds what it reads or builds in the store, and others may
// wait for it.
const patience = 2 * time.Minute

// answer is a handler whose errors are sent. A client that does not read cancels its request, and what went wrong after the first
// byte breaks the connection: the client must not take what it has for the whole.
func (s *Server) answer(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		out := &patient{ResponseWriter: w, control: http.NewResponseController(w), cancel: cancel, patience: s.patience}
		defer out.end()
		err := crash.Guard(func() error { return h(out, r.WithContext(ctx)) })()
		switch {
		case err == nil:
		case out.begun:
			panic(http.ErrAbortHandler)
		default:
			writeError(out, err)
		}
	})
}

// patient writes to a client as long as it reads.
type patient struct {
	http.ResponseWriter
	control  *http.ResponseController
	cancel   context.CancelFunc
	patience time.Duration
	begun    bool
}

// Unwrap lets a request take over its connection.
func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *patient) WriteHeader(status int) {
	p.begun = true
	p.ResponseWriter.WriteHeader(status)
}

func (p *patient) Write(data []byte) (int, error) {
	p.begun = true
	_ = p.control.SetWriteDeadline(time.Now().Add(p.patience)) // without one, the client has all time
	n, err := p.ResponseWriter.Write(data)
	if err != nil {
		p.cancel()
	}
	return n, err
}

// FlushError sends what was written.
func (p *patient) FlushError() error {
	err := p.control.Flush()
	if err != nil {
		p.cancel()
	}
	return err
}

// end gives the next answer of the connection all time.
func (p *patient) end() { _ = p.control.SetWriteDeadline(time.Time{}) }
