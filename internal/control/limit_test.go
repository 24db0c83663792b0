package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	if _, err := withContent(&ops.Remote{Described: true, WithContent: []string{"["}}, nil); err == nil {
		t.Error("an invalid pattern")
	}
}

// TestReceivedMetadata: the targets of links and the attributes of files count, once, and the attributes are dropped.
func TestReceivedMetadata(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("l", 1<<20)
	for name, file := range map[string]struct {
		link       string
		attributes map[string][]byte
		ends       bool
	}{
		"a link":        {large, nil, true},
		"an attribute":  {"", map[string][]byte{"user.x": []byte(large)}, true},
		"its name":      {"", map[string][]byte{large: nil}, true},
		"a common file": {"target", map[string][]byte{"user.x": []byte("x")}, false},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		r, err := newReceived(cancel, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range quota.MaxMetadata >> 20 {
			st := &fstypes.Stat{Path: fmt.Sprintf("file%08d", i), Linkname: file.link, Xattrs: file.attributes}
			for range 2 { // fsutil asks again
				r.described(st.Path, st)
			}
			if st.Xattrs != nil {
				t.Fatalf("%s: attributes are left", name)
			}
		}
		if err := context.Cause(ctx); errors.Is(err, quota.ErrExceeded) != file.ends {
			t.Errorf("%s: %v", name, err)
		}
	}
}
