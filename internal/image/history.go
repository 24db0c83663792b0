package image

import (
	"context"
	"time"
)

// HistoryItem is one line of `docker history`.
type HistoryItem struct {
	ID        string // the image's ID in the newest line, "<missing>" in the others
	Created   time.Time
	CreatedBy string
	Size      int64 // bytes, as Docker counts a layer
	Comment   string
}

// Created returns the time in the image's config, or the zero time.
func (i *Image) Created() time.Time {
	if i.Config.Created == nil {
		return time.Time{}
	}
	return *i.Config.Created
}

// History returns the image's history, newest first, each entry with the size of its layer.
func (s *Images) History(_ context.Context, img *Image) ([]HistoryItem, error) {
	chain := img.Chain()
	items := make([]HistoryItem, 0, len(img.Config.History))
	for _, h := range img.Config.History {
		item := HistoryItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			item.Created = *h.Created
		}
		if !h.EmptyLayer && len(chain) > 0 {
			l, err := s.layers.Get(chain[0])
			if err != nil {
				return nil, err
			}
			item.Size = l.Size
			chain = chain[1:]
		}
		items = append([]HistoryItem{item}, items...)
	}
	if len(items) > 0 {
		items[0].ID = img.ID.String()
	}
	return items, nil
}
