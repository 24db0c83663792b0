package control

import (
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/store"
)

// TestRecordOfKilledBuild: a build whose process was killed has ended for clients, when its last step was seen.
func TestRecordOfKilledBuild(t *testing.T) {
	t.Parallel()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	c := New(Options{Store: s})
	started := time.Unix(1000, 0)
	b := &history.Build{Ref: "a", Status: history.Interrupted, Started: started, Steps: []*history.Step{{Started: started.Add(time.Second)}}}
	r := c.historyRecord(b)
	if r.CompletedAt == nil || !r.CompletedAt.AsTime().Equal(started.Add(time.Second)) || codes.Code(r.Error.Code) != codes.Unknown {
		t.Errorf("%+v", r)
	}
	b.Status = history.Running
	if r := c.historyRecord(b); r.CompletedAt != nil || r.Error != nil {
		t.Errorf("%+v", r)
	}
}
