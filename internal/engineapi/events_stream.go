package engineapi

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/events"
)

// span is the time of the events that a client asks for. A zero time is no limit.
type span struct{ since, until time.Time }

func newSpan(r *http.Request) (span, error) {
	var s span
	var err error
	if s.since, err = parseUnixTime(r.URL.Query().Get("since")); err != nil {
		return s, badRequest("invalid value for 'since': %w", err)
	}
	if s.until, err = parseUnixTime(r.URL.Query().Get("until")); err != nil {
		return s, badRequest("invalid value for 'until': %w", err)
	}
	if !s.until.IsZero() && s.until.Before(s.since) {
		return s, badRequest("`since` time (%s) cannot be after `until` time (%s)", r.URL.Query().Get("since"), r.URL.Query().Get("until"))
	}
	return s, nil
}

// kept reports whether a client asks for an event of the past. Without a time, it asks for those to come.
func (s span) kept(m events.Message) bool {
	if s.since.IsZero() && s.until.IsZero() {
		return false
	}
	return !time.Unix(0, m.TimeNano).Before(s.since) && s.beforeEnd(m)
}

func (s span) beforeEnd(m events.Message) bool {
	return s.until.IsZero() || !time.Unix(0, m.TimeNano).After(s.until)
}

// eventStream is the answer to a client that asks for events.
type eventStream struct {
	w       http.ResponseWriter
	r       *http.Request
	times   span
	filters map[string][]string
	// sequence has a record separator before each event (RFC 7464).
	sequence bool
}

// recordSeparator begins each value of a JSON text sequence.
const recordSeparator = "\x1e"

// streamEvents sends events, until the time that the client gives, or as long as it listens.
func (s *Server) streamEvents(w http.ResponseWriter, r *http.Request) error {
	times, err := newSpan(r)
	if err != nil {
		return err
	}
	wanted, err := filters(r)
	if err != nil {
		return err
	}
	contentType := eventsType(r)
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	e := &eventStream{w: w, r: r, times: times, filters: wanted, sequence: contentType == types.MediaTypeJSONSequence}
	old, ch := s.events.subscribe()
	defer s.events.unsubscribe(ch)
	for _, m := range old {
		if times.kept(m) && !e.send(m) {
			return nil
		}
	}
	if e.follow(ch) {
		s.events.unsubscribe(ch)
		e.drain(ch)
	}
	return nil
}

// follow sends events as they come, and reports whether the client waits for more because the time that it has given has come.
func (e *eventStream) follow(ch <-chan events.Message) bool {
	var end <-chan time.Time
	if !e.times.until.IsZero() {
		timer := time.NewTimer(time.Until(e.times.until))
		defer timer.Stop()
		end = timer.C
	}
	for {
		select {
		case m, ok := <-ch:
			if !ok || !e.send(m) {
				return false
			}
		case <-end:
			return true
		case <-e.r.Context().Done():
			return false
		}
	}
}

// drain sends the events that have not been sent when the time of the client has come.
func (e *eventStream) drain(ch <-chan events.Message) {
	for {
		select {
		case m, ok := <-ch:
			if !ok || !e.send(m) {
				return
			}
		default:
			return
		}
	}
}

// send sends an event if the client wants it, and reports whether it still reads.
func (e *eventStream) send(m events.Message) bool {
	if !e.times.beforeEnd(m) || !matchesEvent(e.filters, m) {
		return true
	}
	if e.sequence {
		if _, err := io.WriteString(e.w, recordSeparator); err != nil {
			return false
		}
	}
	if err := json.NewEncoder(e.w).Encode(eventFor(e.r, m)); err != nil {
		return false
	}
	return http.NewResponseController(e.w).Flush() == nil
}

// eventsType is the form of the answer: one of those that the client names, or else that of its version of the API.
func eventsType(r *http.Request) string {
	best, weight := types.MediaTypeJSONLines, 0.0
	if !since(r, "1.52") {
		best = types.MediaTypeJSON
	}
	for _, offer := range []string{types.MediaTypeJSONLines, types.MediaTypeNDJSON, types.MediaTypeJSONSequence} {
		for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
			name, parameters, err := mime.ParseMediaType(part)
			if err != nil || name != offer {
				continue
			}
			q, err := strconv.ParseFloat(parameters["q"], 64)
			if err != nil {
				q = 1
			}
			if q > weight {
				best, weight = offer, q
			}
		}
	}
	return best
}

// oldEvent has the fields that the API had before 1.52.
type oldEvent struct {
	events.Message
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
}

func eventFor(r *http.Request, m events.Message) any {
	switch {
	case !since(r, "1.52") && m.Type == events.ImageEventType:
		return oldEvent{Message: m, Status: string(m.Action), ID: m.Actor.ID}
	case !since(r, "1.52") && m.Type == events.ContainerEventType:
		return oldEvent{Message: m, Status: string(m.Action), ID: m.Actor.ID, From: m.Actor.Attributes["image"]}
	}
	return m
}
