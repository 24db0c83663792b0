package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/terminal"
)

// logRow is a piece of the output of a step.
type logRow struct {
	Step   int       `json:"step"` // its place in the list
	Stream int       `json:"stream"`
	Time   time.Time `json:"time"`
	Text   string    `json:"text"`
}

// logPart is a part of a log.
type logPart struct {
	Log  []logRow `json:"log"`
	Next int64    `json:"next"` // where the log goes on
	More bool     `json:"more"` // there is more now
}

// maxLog is how much of a log one answer has, in bytes.
const maxLog = 1 << 20

var errEnough = errors.New("enough")

// logFrom reads a part of a log.
func (s *Server) logFrom(b *history.Build, from int64) (*logPart, error) {
	place := map[digest.Digest]int{}
	for i, st := range b.Steps {
		place[st.Vertex] = i
	}
	part, size := &logPart{Log: []logRow{}}, 0
	next, err := s.builds.LogsFrom(b, from, func(l history.Log) error {
		if size > maxLog {
			return errEnough
		}
		size += len(l.Data)
		if i, ok := place[l.Vertex]; ok {
			part.Log = append(part.Log, logRow{i, l.Stream, l.Time, string(terminal.EscapeLog([]byte(redact.URLs(string(l.Data)))))})
		}
		return nil
	})
	part.Next = next
	if errors.Is(err, errEnough) {
		part.More, err = true, nil
	}
	return part, err
}

func (s *Server) showLog(r *http.Request) (any, error) {
	b, err := s.findBuild(r)
	if err != nil {
		return nil, err
	}
	from, err := number(r, "from", 0, 0)
	if err != nil {
		return nil, err
	}
	return s.logFrom(b, int64(from))
}

// tick is how often a build that runs is looked at. Its record is a file that grows.
const tick = 250 * time.Millisecond

// watchBuild sends a build and its log as events (HTML, 9.2) until the build has ended.
func (s *Server) watchBuild(w http.ResponseWriter, r *http.Request) {
	b, err := s.findBuild(r)
	if err != nil {
		fail(w, statusOf(err), redact.URLs(err.Error()))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	ctl := http.NewResponseController(w)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var last []byte
	var next int64
	for {
		data, err := json.Marshal(s.pageOf(b))
		if err == nil && !bytes.Equal(data, last) {
			last = data
			err = event(w, "build", data)
		}
		if err == nil {
			next, err = s.sendLog(w, b, next)
		}
		if b.Status != history.Running {
			err = errors.Join(err, event(w, "end", []byte("{}")))
		}
		if err = errors.Join(err, ctl.Flush()); err != nil || b.Status != history.Running {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
		if b, err = s.builds.Find(b.Ref); err != nil {
			return
		}
	}
}

// sendLog sends what is new in a log, and returns where it goes on.
func (s *Server) sendLog(w io.Writer, b *history.Build, from int64) (int64, error) {
	for {
		part, err := s.logFrom(b, from)
		if err != nil {
			return from, err
		}
		if len(part.Log) > 0 {
			data, err := json.Marshal(part)
			if err = errors.Join(err, event(w, "log", data)); err != nil {
				return from, err
			}
		}
		if from = part.Next; !part.More {
			return from, nil
		}
	}
}

// event writes one event. JSON has no newlines.
func event(w io.Writer, name string, data []byte) error {
	_, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, data)
	return err
}
