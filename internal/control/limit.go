package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/patternmatcher"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/solver/ops"
)

// received counts what a client sends of a directory, and ends the transfer at the limit. The sizes that it says and the bytes that it sends
// are counted apart: it may lie.
type received struct {
	said, sent *quota.Quota
	end        context.CancelCauseFunc
	show       func(bytes int64, done bool) // the progress
	last       string                       // the path that was counted last
	// again is set if the directory that is kept may be that of another client. Files are compared by name, mode, size and time: a time of
	// whole seconds may have been set, to that of a commit or of a release, and says little about the content. Such a file is sent again.
	// One with nanoseconds tells when it was written.
	again bool
	bytes int
}

func newReceived(end context.CancelCauseFunc, show func(bytes int64, done bool)) (*received, error) {
	said, err := quota.New()
	if err != nil {
		return nil, err
	}
	sent, err := quota.New()
	return &received{said: said, sent: sent, end: end, show: show}, err
}

// file counts a file that the client has, and reports whether it is to be sent again. What a host adds to its files says nothing about an image
// (view.DirOptions.Anonymous): it counts, and is dropped.
func (r *received) file(st *fstypes.Stat) bool {
	metadata := len(st.Path) + len(st.Linkname)
	for k, v := range st.Xattrs {
		metadata += len(k) + len(v)
	}
	st.Uid, st.Gid, st.Xattrs = 0, 0, nil
	if err := r.said.File(metadata, max(0, st.Size)); err != nil {
		r.end(err)
	}
	return r.again && st.ModTime%int64(time.Second) == 0
}

// described counts a file of a directory of which most files are not sent. fsutil asks for some several times, in the order of their paths,
// and for those that are to be removed, which have no metadata.
func (r *received) described(path string, st *fstypes.Stat) bool {
	if st.Path == "" || r.last != "" && fsutil.ComparePath(path, r.last) <= 0 {
		st.Uid, st.Gid, st.Xattrs = 0, 0, nil
		return true
	}
	r.last = path
	if r.file(st) {
		st.ModTime++ // fsutil asks first to compare: it is another time than that of the file that is kept
	}
	return true
}

// maxDescribed bounds the metadata of a directory of which most files are not sent, in bytes: it is in memory.
const maxDescribed = 128 << 20

// errDirectoryItself is the error for a client that sends a directory as a file in itself.
var errDirectoryItself = errors.New(`invalid path ".": it is not below the directory`)

// withContent returns the filter for the files that are sent with their content. It ends the transfer at the limit. fsutil calls it while it calls others.
func withContent(src *ops.Remote, end context.CancelCauseFunc) (func(path string, st *fstypes.Stat) bool, error) {
	patterns, err := patternmatcher.New(src.WithContent)
	if err != nil {
		return nil, err
	}
	size := 0
	return func(path string, st *fstypes.Stat) bool {
		if path == "." { // fsutil would let a link take the place of the directory, and write the next files where it leads
			end(errDirectoryItself)
			return false
		}
		if size += st.SizeVT(); size > maxDescribed {
			end(fmt.Errorf("%w: the metadata of its files takes more than %d MiB", quota.ErrExceeded, maxDescribed>>20))
		}
		wanted, err := patterns.MatchesOrParentMatches(path)
		return err == nil && wanted
	}, nil
}

// progress counts the bytes that the client has sent so far.
func (r *received) progress(total int, done bool) {
	if err := r.sent.Sent(int64(total - r.bytes)); err != nil {
		r.end(err)
	}
	r.bytes = total
	r.show(int64(total), done)
}
