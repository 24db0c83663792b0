package engineapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/events"

	"github.com/micabuild/mica/internal/image"
)

// Numbers of events: those that a client may ask for afterwards, and those that wait for a slow client.
const (
	keptEvents    = 256
	waitingEvents = 1024
)

// hub keeps the last events of this server, and gives new ones to those who watch.
type hub struct {
	mu       sync.Mutex
	kept     []events.Message
	watching map[chan events.Message]bool
}

func newHub() *hub { return &hub{watching: map[chan events.Message]bool{}} }

func (h *hub) listeners() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.watching)
}

// publish adds an event. A client that is too slow for events loses its stream, not the others theirs.
func (h *hub) publish(kind events.Type, action events.Action, id string, attributes map[string]string) {
	now := time.Now()
	m := events.Message{
		Type: kind, Action: action, Actor: events.Actor{ID: id, Attributes: attributes}, Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano(),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kept = append(h.kept, m); len(h.kept) > keptEvents {
		h.kept = slices.Delete(h.kept, 0, len(h.kept)-keptEvents)
	}
	for ch := range h.watching {
		select {
		case ch <- m:
		default:
			delete(h.watching, ch)
			close(ch)
		}
	}
}

// watch returns the events that were kept, and a channel of those that come.
func (h *hub) watch() ([]events.Message, chan events.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ch := make(chan events.Message, waitingEvents)
	h.watching[ch] = true
	return slices.Clone(h.kept), ch
}

func (h *hub) leave(ch chan events.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watching, ch)
}

// imageEvent publishes what happened to an image. name is what docker calls it.
func (s *Server) imageEvent(action events.Action, id, name string, labels map[string]string) {
	attributes := map[string]string{"name": name}
	maps.Copy(attributes, labels)
	s.events.publish(events.ImageEventType, action, id, attributes)
}

// removedEvents publishes the lines of a removal of images, by their IDs. Docker's lines name layers, too, which are no images.
func (s *Server) removedEvents(images map[string]bool, lines []image.Removed) {
	for i, l := range lines {
		switch {
		case l.Untagged != "":
			id := untaggedID(images, lines[i:])
			s.imageEvent(events.ActionUnTag, id, id, nil)
		case images[l.Deleted]:
			s.imageEvent(events.ActionDelete, l.Deleted, l.Deleted, nil)
		}
	}
}

// untaggedID is the image that lost a name: the next one that was removed, or else the only one that is known.
func untaggedID(images map[string]bool, lines []image.Removed) string {
	for _, l := range lines {
		if images[l.Deleted] {
			return l.Deleted
		}
	}
	if len(images) > 1 {
		return ""
	}
	for id := range images {
		return id
	}
	return ""
}

// span is the time of the events that a client asks for. A zero time is no limit.
type span struct{ since, until time.Time }

func newSpan(r *http.Request) (span, error) {
	var s span
	var err error
	if s.since, err = unixTime(r.URL.Query().Get("since")); err != nil {
		return s, badRequest("invalid value for 'since': %w", err)
	}
	if s.until, err = unixTime(r.URL.Query().Get("until")); err != nil {
		return s, badRequest("invalid value for 'until': %w", err)
	}
	if !s.until.IsZero() && s.until.Before(s.since) {
		return s, badRequest("`since` time (%s) cannot be after `until` time (%s)", r.URL.Query().Get("since"), r.URL.Query().Get("until"))
	}
	return s, nil
}

// maxSeconds is in the year 36812: nanoseconds of much later times overflow.
const maxSeconds = 1 << 40

// unixTime reads seconds since 1970, with nanoseconds after a point.
func unixTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	whole, part, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds > maxSeconds {
		return time.Time{}, fmt.Errorf("%q is not a time", text)
	}
	if part = (part + "000000000")[:9]; part == "000000000" {
		return time.Unix(seconds, 0), nil
	}
	nanoseconds, err := strconv.ParseInt(part, 10, 64)
	if err != nil || nanoseconds < 0 {
		return time.Time{}, fmt.Errorf("%q is not a time", text)
	}
	return time.Unix(seconds, nanoseconds), nil
}

// watch sends events, until the time that the client gives, or as long as it listens.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) error {
	times, err := newSpan(r)
	if err != nil {
		return err
	}
	wanted, err := filters(r)
	if err != nil {
		return err
	}
	contentType := types.MediaTypeJSONLines
	if !since(r, "1.52") {
		contentType = types.MediaTypeJSON
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	_ = flush()
	old, ch := s.events.watch()
	defer s.events.leave(ch)
	send := func(m events.Message) bool {
		if !matchesEvent(wanted, m) {
			return true
		}
		if err := json.NewEncoder(w).Encode(eventFor(r, m)); err != nil {
			return false
		}
		return flush() == nil
	}
	for _, m := range old {
		at := time.Unix(0, m.TimeNano)
		if !times.since.IsZero() && !at.Before(times.since) && (times.until.IsZero() || at.Before(times.until)) && !send(m) {
			return nil
		}
	}
	var end <-chan time.Time
	if !times.until.IsZero() {
		timer := time.NewTimer(time.Until(times.until))
		defer timer.Stop()
		end = timer.C
	}
	for {
		select {
		case m, ok := <-ch:
			if !ok || !send(m) {
				return nil
			}
		case <-end:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
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

// matchesEvent reports whether an event matches each key of the filters by one of its values, and all labels.
func matchesEvent(wanted map[string][]string, m events.Message) bool {
	for key, values := range wanted {
		if len(values) == 0 {
			continue
		}
		one := func(f func(v string) bool) bool { return slices.ContainsFunc(values, f) }
		ok := false
		switch key {
		case "event":
			ok = one(func(v string) bool { return v == string(m.Action) || strings.HasPrefix(string(m.Action), v+": ") }) // exec_start: COMMAND
		case "type":
			ok = one(func(v string) bool { return v == string(m.Type) })
		case "scope":
			ok = one(func(v string) bool { return v == m.Scope })
		case "image":
			ok = one(func(v string) bool { return namesImage(m, v) })
		case "container", "volume", "network":
			ok = string(m.Type) == key && one(func(v string) bool { return namesObject(m, v) })
		case "label":
			ok = !one(func(v string) bool { return !hasAttribute(m.Actor.Attributes, v) })
		}
		if !ok {
			return false
		}
	}
	return true
}

// namesObject reports whether an event is about what a client has named, by a prefix of its ID too.
func namesObject(m events.Message, ref string) bool {
	return ref != "" && (strings.HasPrefix(m.Actor.ID, ref) || m.Actor.Attributes["name"] == strings.TrimPrefix(ref, "/"))
}

func namesImage(m events.Message, ref string) bool {
	name := m.Actor.Attributes["name"]
	if m.Type == events.ContainerEventType {
		return familiarTagged(m.Actor.Attributes["image"]) == familiarTagged(ref)
	}
	return m.Type == events.ImageEventType && (m.Actor.ID == ref || name == ref || familiarName(name) == ref || familiarTagged(name) == familiarTagged(ref))
}

func familiarTagged(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarString(reference.TagNameOnly(named))
}

func hasAttribute(attributes map[string]string, condition string) bool {
	key, want, withValue := strings.Cut(condition, "=")
	value, ok := attributes[key]
	return ok && (!withValue || value == want)
}
