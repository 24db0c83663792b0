package builder

import (
	"cmp"
	"context"
	"errors"
	"os"
	"time"

	"github.com/micabuild/mica/internal/actionscache"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/remotecache"
)

// actionsTimeout is that of BuildKit (cache/remotecache/gha).
const actionsTimeout = 10 * time.Minute

// hasCache reports whether a cache can be used. One of type gha is left out where no job of GitHub Actions runs, as by buildx: files of
// mica bake name it for CI.
func (o *Options) hasCache(c *buildspec.Cache) bool {
	return c.Type != buildspec.CacheActions || o.Client != nil || actionsOptions(c, nil).Token != ""
}

// actionsOptions returns where a cache of type gha is. A client has sent the values of its own environment.
func actionsOptions(c *buildspec.Cache, client Client) actionscache.Options {
	a := c.Actions
	if client == nil {
		a.Token = cmp.Or(a.Token, os.Getenv("ACTIONS_RUNTIME_TOKEN"))
		a.URL = cmp.Or(a.URL, os.Getenv("ACTIONS_RESULTS_URL"))
	}
	return actionscache.Options{URL: a.URL, Token: a.Token, Scope: a.Scope, Timeout: cmp.Or(a.Timeout, actionsTimeout)}
}

func (b *Builder) openActions(c *buildspec.Cache, client Client) (*actionscache.Cache, error) {
	o := actionsOptions(c, client)
	if o.URL == "" || o.Token == "" {
		return nil, errors.New("cache type gha needs url_v2 and token, or ACTIONS_RESULTS_URL and ACTIONS_RUNTIME_TOKEN in the environment of the client")
	}
	o.Objects = b.Registry.Objects()
	return actionscache.New(o)
}

// readActions reads a cache of type gha, with an Import for each branch that has one.
func (b *Builder) readActions(ctx context.Context, c *buildspec.Cache, client Client, limit *budget) (list []*remotecache.Import, err error) {
	at, err := b.openActions(c, client)
	if err != nil {
		return nil, err
	}
	indexes, err := at.Indexes(ctx)
	if err != nil {
		return nil, err
	}
	for _, raw := range indexes {
		i, err := limit.readConfig(at, raw)
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, nil
}

// writeActions exports to a cache of type gha.
func (x *cacheWriter) writeActions(ctx context.Context, c *buildspec.Cache, o remotecache.ExportOptions, keys []remotecache.Key) error {
	at, err := x.b.openActions(c, x.client)
	if err != nil {
		return err
	}
	o.Describe = true
	got, err := x.exported(ctx, at, c, o, keys)
	if err != nil || got == nil {
		return err
	}
	return at.PutIndex(ctx, got.Config)
}
