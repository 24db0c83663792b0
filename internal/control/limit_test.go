package control

import (
	"context"
	"errors"
	"fmt"
	"testing"

	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/solver/ops"
)

// TestDescribedLimit: the metadata of files that are not sent has a limit, since it is in memory; their contents do not count.
func TestDescribedLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stat  *fstypes.Stat
		files int
		ends  bool
	}{
		"large files":      {stat: &fstypes.Stat{Size: 1 << 50}, files: 10},
		"large attributes": {stat: &fstypes.Stat{Xattrs: map[string][]byte{"user.x": make([]byte, 1<<20)}}, files: maxDescribed >> 20, ends: true},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		wanted, err := withContent(&ops.Remote{Described: true, WithContent: []string{"wanted"}}, cancel)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.files {
			if wanted(fmt.Sprintf("file%08d", i), c.stat) {
				t.Errorf("%s: the file is sent", name)
			}
		}
		if err := context.Cause(ctx); errors.Is(err, quota.ErrExceeded) != c.ends {
			t.Errorf("%s: %v", name, err)
		}
	}
	if wanted, err := withContent(&ops.Remote{}, nil); wanted != nil || err != nil {
		t.Errorf("a filter for a directory that is sent: %v", err)
	}
	if _, err := withContent(&ops.Remote{Described: true, WithContent: []string{"["}}, nil); err == nil {
		t.Error("an invalid pattern")
	}
}
