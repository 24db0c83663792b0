package engineapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// TestEvents: a client sees what others do, until it goes.
func TestEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	got := r.Events(ctx, client.EventsListOptions{Filters: client.Filters{}.Add("type", "image")})
	for r.server.events.listeners() == 0 {
		time.Sleep(time.Millisecond) // until the request has arrived
	}
	id := r.image("one", "a:1", "b:1")
	if _, err := r.ImageRemove(t.Context(), "a:1", client.ImageRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ImageRemove(t.Context(), "b:1", client.ImageRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"import a:1", "tag b:1", "untag " + id, "untag " + id, "delete " + id} {
		select {
		case m := <-got.Messages:
			if s := string(m.Action) + " " + m.Actor.Attributes["name"]; s != want || m.Actor.ID != id || m.Type != events.ImageEventType || m.TimeNano == 0 {
				t.Errorf("%s of %s, want %s", s, m.Actor.ID, want)
			}
		case err := <-got.Err:
			t.Fatal(err)
		}
	}
	cancel()
	for r.server.events.listeners() > 0 {
		time.Sleep(time.Millisecond) // until the server knows that the client has gone
	}
}

// TestPastEvents: events are kept for those who ask later.
func TestPastEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := r.server.events
	now := time.Now()
	for i, name := range []string{"a:1", "b:1", "c:1"} {
		r.server.imageEvent(events.ActionTag, "sha256:"+name[:1], name, map[string]string{"k": name})
		h.kept[i].TimeNano = now.Add(time.Duration(i-10) * time.Second).UnixNano()
	}
	at := func(n int) string {
		return strconv.FormatFloat(float64(now.Add(time.Duration(n)*time.Second).UnixMilli())/1000, 'f', 3, 64)
	}
	for query, want := range map[string]int{
		"since=1&until=" + at(-1): 3, "since=" + at(-9) + "&until=" + at(-8): 1, "until=" + at(-1): 3, "until=" + at(-9): 1, "since=" + at(-11) + "&until=" + at(-11): 0,
		`since=1&until=` + at(-1) + `&filters={"image":["b:1"]}`:                                    1,
		`since=1&until=` + at(-1) + `&filters={"image":["c"]}`:                                      1,
		`since=1&until=` + at(-1) + `&filters={"label":["k=a:1"]}`:                                  1,
		`since=1&until=` + at(-1) + `&filters={"label":["k","k=a:1"]}`:                              1,
		`since=1&until=` + at(-1) + `&filters={"event":["pull","push"]}`:                            0,
		`since=1&until=` + at(-1) + `&filters={"event":["tag"],"scope":["local"],"type":["image"]}`: 3,
		`since=1&until=` + at(-1) + `&filters={"container":["x"]}`:                                  0,
	} {
		if _, body := r.do(http.MethodGet, "/events?"+query, nil); strings.Count(body, "\n") != want {
			t.Errorf("%s: %s", query, body)
		}
	}
	resp, body := r.do(http.MethodGet, "/v1.51/events?since=1&until="+at(-1), nil)
	if resp.Header.Get("Content-Type") != "application/json" || strings.Count(body, `"status":"tag","id":"sha256:`) != 3 {
		t.Errorf("%v\n%s", resp.Header, body)
	}
	for _, query := range []string{"since=x", "until=y", "since=2&until=1", "since=1.x", "until=9223372036854775807", "filters=["} {
		if resp, body := r.do(http.MethodGet, "/events?"+query, nil); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s, %s", query, resp.Status, body)
		}
	}
}

// TestHub: a bounded number is kept, and a client that does not read loses its stream.
func TestHub(t *testing.T) {
	t.Parallel()
	h := newHub()
	_, slow := h.subscribe()
	_, fast := h.subscribe()
	for range waitingEvents + 1 {
		h.publish(events.ImageEventType, events.ActionTag, "x", nil)
		<-fast
	}
	if len(h.kept) != keptEvents || h.listeners() != 1 {
		t.Errorf("%d events, %d listeners", len(h.kept), h.listeners())
	}
	n := 0
	for range slow {
		n++
	}
	if n != waitingEvents {
		t.Errorf("%d events of a slow client", n)
	}
	h.unsubscribe(slow)
	h.unsubscribe(fast)
	if old, ch := h.subscribe(); h.listeners() != 1 || !slices.EqualFunc(old, h.kept, func(a, b events.Message) bool { return a.TimeNano == b.TimeNano }) || len(ch) != 0 {
		t.Error("the kept events are not those of the hub")
	}
}

// TestEventsUntil: a client gets what has happened before its time, and nothing after it, whatever waits in its channel.
func TestEventsUntil(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ch := make(chan events.Message, 4)
	for _, at := range []time.Duration{-2, -1, 1, 2} {
		ch <- events.Message{Type: events.ImageEventType, Action: events.ActionTag, TimeNano: now.Add(at * time.Hour).UnixNano()}
	}
	w := httptest.NewRecorder()
	e := &eventStream{w: w, r: httptest.NewRequest(http.MethodGet, "/events", nil), times: span{until: now}, sequence: true}
	if !e.follow(ch) {
		t.Error("the stream ended before its time")
	}
	e.drain(ch)
	if got := w.Body.String(); strings.Count(got, recordSeparator+"{") != 2 || strings.Count(got, "\n") != 2 {
		t.Errorf("got %q", got)
	}
}

func TestEventsType(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"": "application/jsonl", "*/*": "application/jsonl", "application/json-seq": "application/json-seq",
		"application/json-seq;q=0.5, application/x-ndjson": "application/x-ndjson", "application/json-seq;q=0": "application/jsonl",
	} {
		r := httptest.NewRequest(http.MethodGet, "/events", nil)
		r.Header.Set("Accept", accept)
		if got := eventsType(r); got != want {
			t.Errorf("%q: %s, want %s", accept, got, want)
		}
	}
}
