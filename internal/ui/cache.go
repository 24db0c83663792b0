package ui

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/prune"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/terminal"
)

func (s *Server) pruner() *prune.Pruner {
	layers, images := s.newLayers()
	return &prune.Pruner{Store: s.store, Layers: layers, Images: images}
}

// usageRow is a line of mica system df.
type usageRow struct {
	Type        string `json:"type"`
	Total       int    `json:"total"`
	Active      int    `json:"active"`
	Size        int64  `json:"size"`
	Reclaimable int64  `json:"reclaimable"`
}

// cacheRow is a step or a mount in the build cache.
type cacheRow struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Mount   bool      `json:"mount,omitempty"`
	Size    int64     `json:"size"`
	Created time.Time `json:"created,omitzero"`
	Used    time.Time `json:"used"`
}

// cachePage is what the store takes on disk.
type cachePage struct {
	Usage []usageRow `json:"usage"`
	Cache []cacheRow `json:"cache"` // the last used first
	Size  int64      `json:"size"`  // of the cache, with the layers that images have
	Total int        `json:"total"` // of which Cache may be a part
}

// maxCached is how many records of the cache one answer has.
const maxCached = 2000

// shownID is how much of the ID of a record is shown.
const shownID = 12

func (s *Server) showCache(r *http.Request) (any, error) {
	p := s.pruner()
	u, err := p.Usage(r.Context())
	if err != nil {
		return nil, err
	}
	page := cachePage{
		Usage: []usageRow{
			{"Images", u.Images.Total, u.Images.Active, u.Images.Size, u.Images.Reclaimable},
			{"Build Cache", u.Cache.Total, u.Cache.Active, u.Cache.Size, u.Cache.Reclaimable},
		},
		Cache: []cacheRow{}, Size: u.CacheSize, Total: len(u.Records) + len(u.Mounts),
	}
	for _, m := range u.Mounts {
		page.Cache = append(page.Cache, cacheRow{ID: m.Name[:min(shownID, len(m.Name))], Name: terminal.EscapeString(m.ID), Mount: true, Size: m.Size, Used: m.Used})
	}
	for i := len(u.Records) - 1; i >= 0 && len(page.Cache) < maxCached; i-- {
		rec := u.Records[i]
		var size int64
		for _, id := range ownLayers(rec) {
			n, _ := p.Layers.Size(id) // a layer that is gone has no size
			size += n
		}
		page.Cache = append(page.Cache, cacheRow{
			ID: rec.Key.Encoded()[:shownID], Name: terminal.EscapeString(redact.URLs(rec.Name)), Size: size, Created: rec.Created, Used: rec.Used,
		})
	}
	return page, nil
}

// ownLayers are the uppermost layers of the results of a step: those that it made, as far as that can be seen from its record.
func ownLayers(rec *buildcache.Record) (ids []digest.Digest) {
	for _, out := range rec.Outputs {
		if len(out) > 0 {
			ids = append(ids, out[len(out)-1].DiffID)
		}
	}
	return ids
}

// pruneRequest has the flags of mica builder prune.
type pruneRequest struct {
	All         bool   `json:"all"`
	Until       string `json:"until"`       // a duration; "" for no limit
	KeepStorage string `json:"keepStorage"` // a size; "" for none
}

// How long a prune waits for requests that read the store, and how often it looks.
const (
	pruneWait = 5 * time.Second
	pruneLook = 20 * time.Millisecond
)

var errInUse = errors.New("the page reads images, or sends a file: try again when it has ended")

// lockUse locks what requests that read the store hold, as a process that prunes must not use the store. It does not wait in their
// queue: those that come later would wait behind it for a download that may take hours.
func (s *Server) lockUse(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pruneWait)
	defer cancel()
	look := time.NewTicker(pruneLook)
	defer look.Stop()
	for !s.use.TryLock() {
		select {
		case <-look.C:
		case <-ctx.Done():
			return errInUse
		}
	}
	return nil
}

// pruneCache does what mica builder prune does. The page has asked before.
func (s *Server) pruneCache(r *http.Request) (any, error) {
	var req pruneRequest
	if err := body(r, &req); err != nil {
		return nil, err
	}
	var filters []string
	if req.Until != "" {
		filters = append(filters, "until="+req.Until)
	}
	limits, err := prune.ParseLimits(req.All, filters, req.KeepStorage, time.Now())
	if err != nil {
		return nil, &requestError{err}
	}
	if err := s.lockUse(r.Context()); err != nil {
		return nil, err
	}
	defer s.use.Unlock()
	removed, freed, err := s.pruner().Cache(r.Context(), limits)
	if err != nil {
		return nil, err
	}
	return map[string]any{"removed": len(removed), "freed": freed}, nil
}
