package engineapi

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"

	"github.com/micabuild/mica/internal/image"
)

// Numbers of events: those that a client may ask for afterwards, and those that wait for a slow client.
const (
	keptEvents    = 256
	waitingEvents = 1024
)

// hub keeps the last events of this server, and gives new ones to its subscribers.
type hub struct {
	mu          sync.Mutex
	kept        []events.Message
	subscribers map[chan events.Message]bool
}

func newHub() *hub { return &hub{subscribers: map[chan events.Message]bool{}} }

func (h *hub) listeners() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subscribers)
}

// publish adds an event. A client that is too slow for events loses its stream, not the others theirs.
func (h *hub) publish(kind events.Type, action events.Action, id string, attributes map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now() // in the order of the events
	m := events.Message{
		Type: kind, Action: action, Actor: events.Actor{ID: id, Attributes: attributes}, Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano(),
	}
	if h.kept = append(h.kept, m); len(h.kept) > keptEvents {
		h.kept = slices.Delete(h.kept, 0, len(h.kept)-keptEvents)
	}
	for ch := range h.subscribers {
		select {
		case ch <- m:
		default:
			delete(h.subscribers, ch)
			close(ch)
		}
	}
}

// subscribe returns the events that were kept, and a channel of those that come.
func (h *hub) subscribe() ([]events.Message, chan events.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ch := make(chan events.Message, waitingEvents)
	h.subscribers[ch] = true
	return slices.Clone(h.kept), ch
}

// unsubscribe ends the events of a channel. All that were published before are in it.
func (h *hub) unsubscribe(ch chan events.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subscribers, ch)
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
