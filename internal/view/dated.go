package view

import (
	"context"
	"time"
)

// dated is a view whose files are all of one time.
type dated struct {
	View
	at time.Time
}

// Dated is v with one time for all its files.
func Dated(v View, at time.Time) View { return &dated{v, at} }

// Lstat implements View.
func (d *dated) Lstat(ctx context.Context, name string) (*Entry, error) {
	e, err := d.View.Lstat(ctx, name)
	if err != nil {
		return nil, err
	}
	return d.date(e), nil
}

// ReadDir implements View.
func (d *dated) ReadDir(ctx context.Context, name string) ([]*Entry, error) {
	found, err := d.View.ReadDir(ctx, name)
	if err != nil {
		return nil, err
	}
	list := make([]*Entry, len(found))
	for i, e := range found {
		list[i] = d.date(e)
	}
	return list, nil
}

func (d *dated) date(e *Entry) *Entry {
	e = e.Clone()
	e.ModTime = d.at
	return e
}
