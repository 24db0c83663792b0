package sources

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/buildkit/util/gitutil"
)

// maxObject bounds a commit or tag that is read, in bytes.
const maxObject = 1 << 20

// Objects are a commit, and the annotated tag that names it, as git has them.
type Objects struct {
	// Peeled is the commit of a tag, "" for a ref that names a commit itself.
	Peeled      string
	Commit, Tag []byte
}

// Objects fetches the objects of what was pinned.
func (r *repository) Objects(ctx context.Context) (o Objects, err error) {
	err = r.fetched(ctx, func(git *gitutil.GitCLI, _ string) error {
		o, err = r.readObjects(ctx, git)
		return err
	})
	return o, err
}

func (r *repository) readObjects(ctx context.Context, git *gitutil.GitCLI) (o Objects, err error) {
	kind, err := git.Run(ctx, "cat-file", "-t", r.commit)
	if err != nil {
		return o, r.fail("read", err)
	}
	switch what := strings.TrimSpace(string(kind)); what {
	case "commit":
		o.Commit, err = r.readObject(ctx, git, what, r.commit)
		return o, err
	case "tag":
	default:
		return o, fmt.Errorf("%s: %s is a %s, not a commit", r.name(), r.fullRef, what)
	}
	if o.Tag, err = r.readObject(ctx, git, "tag", r.commit); err != nil {
		return o, err
	}
	id, err := git.Run(ctx, "rev-parse", r.commit+"^{commit}")
	if err != nil {
		return o, r.fail("read", err)
	}
	o.Peeled = strings.TrimSpace(string(id))
	o.Commit, err = r.readObject(ctx, git, "commit", o.Peeled)
	return o, err
}

func (r *repository) readObject(ctx context.Context, git *gitutil.GitCLI, kind, id string) ([]byte, error) {
	out, err := git.Run(ctx, "cat-file", "-s", id)
	if err != nil {
		return nil, r.fail("read", err)
	}
	if size, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64); err != nil || size > maxObject {
		return nil, fmt.Errorf("%s: the %s %s is larger than %d bytes", r.name(), kind, id, maxObject)
	}
	data, err := git.Run(ctx, "cat-file", kind, id)
	if err != nil {
		return nil, r.fail("read", err)
	}
	return data, nil
}
