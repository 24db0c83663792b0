package solver

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/micabuild/mica/internal/buildcache"
)

// Observer learns how the operations of a build are solved. Its methods may be called from several goroutines at once. They are
// called for the inputs of an operation before they are called for it.
type Observer interface {
	// Runs is called before an operation runs. It returns a line that is shown with the operation, "" for none.
	Runs(ctx context.Context, v *Vertex, key buildcache.Key, miss Miss) string
	// Solved is called when an operation has results. key is nil for an operation without one.
	Solved(v *Vertex, key *buildcache.Key, results []*Result)
	// Blocked is called in a plan for an operation whose key is not known, since one of its inputs would run.
	Blocked(v *Vertex)
}

// ErrPlanned is the error of a plan for what would run.
var ErrPlanned = errors.New("the step would run")

// Miss says what the build cache had for an operation that runs.
type Miss int

// What the cache had.
const (
	NoRecord Miss = iota // no record
	NoLayers             // a record whose layers are not in the store
	NotAsked             // the operation is not to be cached
)

// silent is the Observer of a build that nobody observes.
type silent struct{}

func (silent) Runs(context.Context, *Vertex, buildcache.Key, Miss) string { return "" }
func (silent) Solved(*Vertex, *buildcache.Key, []*Result)                 {}
func (silent) Blocked(*Vertex)                                            {}

// noteID is the beginning of the IDs of notes.
const noteID = "because "

// IsNote reports whether a status is a line about an operation, in place of the progress of something.
func IsNote(s *client.VertexStatus) bool { return strings.HasPrefix(s.ID, noteID) }

// note shows a line below the operation, which begins with "because ".
func (t *tracker) note(text string) {
	if text == "" {
		return
	}
	now := time.Now()
	t.s.events(&Status{Statuses: []*client.VertexStatus{{
		ID: text, Name: text, Vertex: t.v.Digest, Timestamp: now, Started: &now, Completed: &now,
	}}})
}
