package imagediff

import (
	"context"
	"time"

	"github.com/micabuild/mica/internal/inspect"
)

// HistoryLine is a line of an image's history.
type HistoryLine struct {
	CreatedBy string     `json:"createdBy"`
	Comment   string     `json:"comment,omitempty"`
	Author    string     `json:"author,omitempty"`
	Empty     bool       `json:"emptyLayer,omitempty"` // it made no layer
	Created   *time.Time `json:"created,omitempty"`
}

// text is the line without its time.
func (l HistoryLine) text() HistoryLine {
	l.Created = nil
	return l
}

func newHistoryLine(h inspect.HistoryItem) HistoryLine {
	return HistoryLine{h.CreatedBy, h.Comment, h.Author, h.EmptyLayer, h.Created}
}

// compareHistory compares histories line by line.
func compareHistory(_ context.Context, a, b *inspect.Image, o Options, r *Report) error {
	r.History = &HistoryReport{Changes: []HistoryChange{}}
	text := func(h inspect.HistoryItem) HistoryLine { return newHistoryLine(h).text() }
	align(a.History, b.History, text, func(i, j int) {
		var c HistoryChange
		if i >= 0 {
			line := newHistoryLine(a.History[i])
			c.Old, c.Change = &line, Removed
		}
		if j >= 0 {
			line := newHistoryLine(b.History[j])
			c.New, c.Change = &line, Added
		}
		if i >= 0 && j >= 0 {
			if o.IgnoreTimes || sameTime(c.Old.Created, c.New.Created) {
				return
			}
			c.Change = Changed
		}
		r.History.Changes = append(r.History.Changes, c)
	})
	return nil
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}
