package sources

import (
	"context"
	"errors"
	"fmt"
)

// Identify finds out what a source is now, and with objects reads those of a commit. A file that was downloaded for it is there for the sources
// of the same build.
func (f *Fetcher) Identify(ctx context.Context, identifier string, attrs map[string]string, objects bool) (is Identity, o Objects, err error) {
	src, err := f.Open(identifier, attrs)
	if err != nil {
		return is, o, err
	}
	defer func() {
		if s, ok := src.(*file); ok && err == nil {
			s.kept = false
		}
		err = errors.Join(err, src.Close())
	}()
	if _, err := src.Pin(ctx); err != nil {
		return is, o, err
	}
	is = src.Identity()
	if !objects {
		return is, o, nil
	}
	r, ok := src.(*repository)
	if !ok {
		return is, o, fmt.Errorf("%s is not a git repository: it has no commit", identifier)
	}
	o, err = r.Objects(ctx)
	is.Peeled = o.Peeled
	return is, o, err
}
