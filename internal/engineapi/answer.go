package engineapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/micabuild/mica/internal/crash"
)

// writeTimeout is how long a client may read nothing of an answer. A request holds what it reads or builds in the store, and others may
// wait for it.
const writeTimeout = 2 * time.Minute

// answer is a handler whose errors are sent. A client that does not read cancels its request, and what went wrong after the first
// byte breaks the connection: the client must not take what it has for the whole.
func (s *Server) answer(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		out := &timedWriter{ResponseWriter: w, control: http.NewResponseController(w), cancel: cancel, writeTimeout: s.writeTimeout}
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

// timedWriter writes to a client as long as it reads.
type timedWriter struct {
	http.ResponseWriter
	control      *http.ResponseController
	cancel       context.CancelFunc
	writeTimeout time.Duration
	begun        bool
}

// Unwrap lets a request take over its connection.
func (t *timedWriter) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *timedWriter) WriteHeader(status int) {
	t.begun = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *timedWriter) Write(data []byte) (int, error) {
	t.begun = true
	_ = t.control.SetWriteDeadline(time.Now().Add(t.writeTimeout)) // without one, the client has all time
	n, err := t.ResponseWriter.Write(data)
	if err != nil {
		t.cancel()
	}
	return n, err
}

// FlushError sends what was written.
func (t *timedWriter) FlushError() error {
	err := t.control.Flush()
	if err != nil {
		t.cancel()
	}
	return err
}

// end gives the next answer of the connection all time.
func (t *timedWriter) end() { _ = t.control.SetWriteDeadline(time.Time{}) }

// writeJSON answers with a value. That the client has gone is not an error.
func writeJSON(w http.ResponseWriter, v any) error {
	sendJSON(w, http.StatusOK, v)
	return nil
}

// writeCreated answers with the description of what a request has made.
func writeCreated(w http.ResponseWriter, v any) error {
	sendJSON(w, http.StatusCreated, v)
	return nil
}

func sendJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

// noContent answers that a request is done, unless it has failed.
func noContent(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
