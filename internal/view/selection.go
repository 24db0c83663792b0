package view

import (
	"context"
	"fmt"
	"hash"
	"maps"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// SelectionDigest is the digest of what Copy would read for src: paths, types, modes, owners, link targets, xattrs,
// devices and the content of files; no modification times. Copying the selection onto nothing tells what that is, so
// that the two can never differ.
func SelectionDigest(ctx context.Context, from View, src string, opt CopyOptions) (string, error) {
	o := NewOverlay(Empty())
	opt.CreateDestPath, opt.AttemptUnpack = true, false
	opt.Owner, opt.Mode, opt.ModeStr, opt.ModTime = nil, nil, "", nil
	// Names matter where a wildcard chooses them: such sources are copied into a folder, single ones to one name.
	dest := "/selection"
	if opt.AllowWildcard && hasWildcard(src) {
		dest += "/"
	}
	if err := o.Copy(ctx, from, src, dest, opt); err != nil {
		return "", err
	}
	changes, err := o.Changes(ctx)
	if err != nil {
		return "", err
	}
	sums, err := contentDigests(ctx, changes)
	if err != nil {
		return "", err
	}
	h := digest.SHA256.Hash()
	for i, c := range changes {
		writeEntry(h, c.Entry, sums[i])
	}
	return digest.NewDigest(digest.SHA256, h).String(), nil
}

// contentDigests returns the digests of the changes' regular files, computed in parallel.
func contentDigests(ctx context.Context, changes []Change) ([]digest.Digest, error) {
	sums := make([]digest.Digest, len(changes))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(runtime.NumCPU())
	const batch = 64
	for at := 0; at < len(changes); at += batch {
		eg.Go(func() error {
			for i := at; i < min(at+batch, len(changes)); i++ {
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
			return nil
		})
	}
	return sums, eg.Wait()
}

// writeEntry feeds an entry to a hash, every field delimited.
func writeEntry(h hash.Hash, e *Entry, content digest.Digest) {
	fmt.Fprintf(h, "%d:%s%d,%o,%d,%d,%d:%s%d:%s%d,%d,%s", len(e.Path), e.Path, e.Type, e.Mode, e.UID, e.GID,
		len(e.Linkname), e.Linkname, len(e.Hardlink), e.Hardlink, e.Major, e.Minor, content)
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		fmt.Fprintf(h, ";%d:%s%d:%s", len(k), k, len(e.Xattrs[k]), e.Xattrs[k])
	}
	_, _ = h.Write([]byte{'\n'})
}
