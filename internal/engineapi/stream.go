package engineapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/transfer"
)

// stream is an answer of messages, one JSON object a line, as docker pull and docker build show them. Its methods may be called from
// several goroutines.
type stream struct {
	mu     sync.Mutex
	w      http.ResponseWriter
	flush  func() error
	begun  bool
	closed bool
}

func newStream(w http.ResponseWriter) *stream {
	return &stream{w: w, flush: http.NewResponseController(w).Flush}
}

// message is jsonstream.Message with the field that older clients read errors from.
type message struct {
	jsonstream.Message
	Text string `json:"error,omitempty"`
}

func (s *stream) send(m jsonstream.Message) { s.write(message{Message: m}) }

func (s *stream) write(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "application/json")
	}
	raw, err := json.Marshal(m)
	if err == nil {
		_, err = s.w.Write(append(raw, '\r', '\n'))
	}
	if err != nil {
		s.closed = true // the client has gone: the context of the request ends, too
		return
	}
	_ = s.flush()
}

// status sends a line.
func (s *stream) status(format string, args ...any) {
	s.send(jsonstream.Message{Status: fmt.Sprintf(format, args...)})
}

// aux sends a value for programs.
func (s *stream) aux(v any) {
	raw, err := json.Marshal(v)
	if err == nil {
		s.send(jsonstream.Message{Aux: (*json.RawMessage)(&raw)})
	}
}

// end ends the answer: with an error in the stream, or, before the first message, with one that has a status. What was sent stays.
func (s *stream) end(err error) error {
	s.mu.Lock()
	begun := s.begun
	s.mu.Unlock()
	if err == nil || !begun {
		return err
	}
	s.fail(err, 0)
	return nil
}

// fail sends an error in the stream.
func (s *stream) fail(err error, code int) {
	text := messageOf(err)
	s.write(message{Message: jsonstream.Message{Error: &jsonstream.Error{Code: code, Message: text}}, Text: text})
}

// layers returns a transfer.Progress that sends what happens to layers, after a first message.
func (s *stream) layers(words dockerapi.Words, first func()) transfer.Progress {
	var mu sync.Mutex
	shown, once := dockerapi.NewLayers(words), sync.OnceFunc(first)
	return func(e transfer.Event) {
		mu.Lock()
		defer mu.Unlock()
		once()
		if m, ok := shown.Message(e); ok {
			s.send(m)
		}
	}
}
