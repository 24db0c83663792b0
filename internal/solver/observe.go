package solver

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/remotecache"
)

// Observer learns how the operations of a build are solved. Its methods may be called from several goroutines at once. They are
// called for the inputs of an operation before they are called for it.
type Observer interface {
	// Runs is called before an operation runs. It returns lines that are shown with the operation.
	Runs(ctx context.Context, v *Vertex, key buildcache.Key, miss Miss) []string
	// Found is called when a remote cache has the results of an operation, before Solved.
	Found(ctx context.Context, v *Vertex, key buildcache.Key)
	// Solved is called when an operation has results. key is nil for an operation without one.
	Solved(v *Vertex, key *buildcache.Key, results []*Result)
	// Blocked is called in a plan for an operation whose key is not known, since one of its inputs would run.
	Blocked(v *Vertex)
}

// ErrPlanned is the error of a plan for what would run.
var ErrPlanned = errors.New("the step would run")

// Miss says why no cache had the results of an operation that runs.
type Miss struct {
	Store  Lookup
	Remote []remotecache.Miss // of each remote cache
}

// Lookup says what the store's build cache had for an operation.
type Lookup int

// What the cache had.
const (
	NoRecord Lookup = iota // no record
	NoLayers               // a record whose layers are not in the store
	NotAsked               // the operation is not to be cached
)

// silent is the Observer of a build that nobody observes.
type silent struct{}

func (silent) Runs(context.Context, *Vertex, buildcache.Key, Miss) []string { return nil }
func (silent) Found(context.Context, *Vertex, buildcache.Key)               {}
func (silent) Solved(*Vertex, *buildcache.Key, []*Result)                   {}
func (silent) Blocked(*Vertex)                                              {}

// The beginnings of notes, which are their IDs.
const (
	Because    = "because "
	NotInCache = "not in cache "
)

// IsNote reports whether a status is a line about an operation, in place of the progress of something.
func IsNote(s *client.VertexStatus) bool {
	return strings.HasPrefix(s.ID, Because) || strings.HasPrefix(s.ID, NotInCache)
}

// Note is a line below an operation, which has one of the beginnings of notes.
func Note(op digest.Digest, text string, at time.Time) *client.VertexStatus {
	return &client.VertexStatus{ID: text, Name: text, Vertex: op, Timestamp: at, Started: &at, Completed: &at}
}

// note shows lines below the operation.
func (t *tracker) note(lines []string) {
	for _, text := range lines {
		t.s.events(&Status{Statuses: []*client.VertexStatus{Note(t.v.Digest, text, time.Now())}})
	}
}
