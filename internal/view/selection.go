package view

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/digestcache"
)

// SelectionDigest is the digest of what Copy would read for src: paths, types, modes, owners, link targets, xattrs,
// devices and the content of files; no modification times. Of a host directory with a
// digest cache it is computed once for each state of the files.
func SelectionDigest(ctx context.Context, from View, src string, opt CopyOptions) (string, error) {
	return selectionDigest(ctx, from, src, opt, nil)
}

// Select is SelectionDigest, and returns the list of the files if it had to make it for the digest, nil otherwise.
func Select(ctx context.Context, from View, src string, opt CopyOptions) (string, *Listing, error) {
	l := &Listing{}
	sum, err := selectionDigest(ctx, from, src, opt, l)
	if l.large || len(l.ends) == 0 {
		l = nil
	}
	return sum, l, err
}

func selectionDigest(ctx context.Context, from View, src string, opt CopyOptions, l *Listing) (string, error) {
	opt = selectionOptions(opt)
	dir, ok := from.(*hostDir)
	if !ok || !dir.settled || dir.digests == nil {
		return computeSelection(ctx, from, src, opt, l)
	}
	key := selectionKey(dir, src, opt)
	if d, ok := dir.digests.Selection(key); ok {
		return d.String(), nil
	}
	d, err := computeSelection(ctx, from, src, opt, l)
	if err == nil {
		dir.digests.AddSelection(key, digest.Digest(d))
	}
	return d, err
}

// selectionKey is what the digest cache has the digest of a selection by: the state of the directory, and what is selected.
func selectionKey(dir *hostDir, src string, opt CopyOptions) digestcache.Sum {
	h := digest.SHA256.Hash()
	fmt.Fprintf(h, "%x %q %t %t %t %t %t %q %q %q", dir.state, src, opt.FollowSymlink, opt.DirCopyContents, opt.AllowWildcard,
		opt.AllowEmptyWildcard, opt.AlwaysReplaceExistingDestPaths, opt.IncludePatterns, opt.ExcludePatterns, opt.RequiredPaths)
	return digestcache.Sum(h.Sum(nil))
}

// selectionOptions are the options of a copy, without those that change what is copied.
func selectionOptions(opt CopyOptions) CopyOptions {
	opt.CreateDestPath, opt.AttemptUnpack = true, false
	opt.Owner, opt.Mode, opt.ModeStr, opt.ModTime = nil, nil, "", nil
	return opt
}

// computeSelection computes the digest of a selection, and adds its files to l unless that is nil.
func computeSelection(ctx context.Context, from View, src string, opt CopyOptions, l *Listing) (string, error) {
	h := digest.SHA256.Hash()
	err := eachSelected(ctx, from, src, opt, func(line []byte, e *Entry) {
		_, _ = h.Write(line)
		l.add(line, e.Size)
	})
	if err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, h).String(), nil
}

// selectionRoot is the directory or file that a selection is copied to.
const selectionRoot = "selection"

// eachSelected calls yield for every file of a selection, with its entry as the digest of the selection is made of it. It copies the
// selection to an empty filesystem, so that digest and copy never differ.
func eachSelected(ctx context.Context, from View, src string, opt CopyOptions, yield func(line []byte, e *Entry)) error {
	o := NewOverlay(Empty())
	// Names matter where a wildcard chooses them: such sources are copied into a directory, single ones to one name.
	dest := "/" + selectionRoot
	if opt.AllowWildcard && hasWildcard(src) {
		dest += "/"
	}
	if err := o.Copy(ctx, from, src, dest, opt); err != nil {
		return err
	}
	changes, err := o.Changes(ctx)
	if err != nil {
		return err
	}
	sums, err := contentDigests(ctx, changes)
	if err != nil {
		return err
	}
	var line []byte
	for i, c := range changes {
		line = appendEntry(line[:0], c.Entry, sums[i])
		yield(line, c.Entry)
	}
	return nil
}

// contentDigests returns the digests of the changes' regular files, computed in parallel.
func contentDigests(ctx context.Context, changes []Change) ([]digest.Digest, error) {
	sums := make([]digest.Digest, len(changes))
	eg, ctx := errgroup.WithContext(ctx)
	// One at a time: in batches, the large files may all be in one.
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		eg.Go(crash.Guard(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(changes) {
					return nil
				}
				c := &changes[i]
				if c.Source == nil {
					continue
				}
				sum, err := c.Source.Digest(ctx, c.SourcePath)
				if err != nil {
					return err
				}
				sums[i] = sum
			}
		}))
	}
	return sums, eg.Wait()
}

// appendEntry writes an entry for a hash, every field delimited.
func appendEntry(b []byte, e *Entry, content digest.Digest) []byte {
	text := func(s string) {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(append(b, ':'), s...)
	}
	numbers := func(base int, list ...int64) {
		for _, n := range list {
			b = append(strconv.AppendInt(b, n, base), ',')
		}
	}
	text(e.Path)
	numbers(10, int64(e.Type))
	numbers(8, int64(e.Mode))
	numbers(10, int64(e.UID), int64(e.GID))
	text(e.Linkname)
	text(e.Hardlink)
	numbers(10, e.Major, e.Minor)
	b = append(b, content...)
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		b = append(b, ';')
		text(k)
		text(e.Xattrs[k])
	}
	return append(b, '\n')
}
