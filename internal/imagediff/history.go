package imagediff

import (
	"cmp"
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

// step is what the line stands for: its command, or its comment if it has none.
func (l HistoryLine) step() string { return cmp.Or(l.CreatedBy, l.Comment) }

func newHistoryLine(h inspect.HistoryItem) HistoryLine {
	return HistoryLine{h.CreatedBy, h.Comment, h.Author, h.EmptyLayer, h.Created}
}

// compareHistory compares histories line by line. Lines of one step may differ in the rest.
func compareHistory(_ context.Context, a, b *inspect.Image, o Options, r *Report) error {
	r.History = &HistoryReport{Changes: []HistoryChange{}}
	step := func(h inspect.HistoryItem) string { return newHistoryLine(h).step() }
	align(a.History, b.History, step, func(i, j int) {
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
			if c.Fields = c.Old.differ(c.New, o); len(c.Fields) == 0 {
				return
			}
			c.Change = Changed
		}
		r.History.Changes = append(r.History.Changes, c)
	})
	return nil
}

// differ lists the fields in which two lines of one step differ, as their JSON names them.
func (l HistoryLine) differ(other *HistoryLine, o Options) (fields []string) {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"createdBy", l.CreatedBy == other.CreatedBy},
		{"comment", l.Comment == other.Comment},
		{"author", l.Author == other.Author},
		{"emptyLayer", l.Empty == other.Empty},
		{fieldCreated, o.IgnoreTimes || sameTime(l.Created, other.Created)},
	} {
		if !f.same {
			fields = append(fields, f.name)
		}
	}
	return fields
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}
