package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/distribution/reference"
)

// What is taken from a registry: tags or repositories, and pages of them.
const (
	maxListed = 1_000_000
	maxPages  = 10_000

	maxReferrerPages = 200
	maxReferring     = 10_000 // referrers of one image
)

// Tags lists the tags of a repository, in the registry's order, which the specification wants to be the alphabet's.
func (c *Client) Tags(ctx context.Context, name reference.Named) ([]string, error) {
	repo, err := c.Repository(ctx, name)
	if err != nil {
		return nil, err
	}
	var tags []string
	pages := newPages()
	err = repo.remote.Tags(ctx, "", func(page []string) error {
		if err := pages.add(page); err != nil {
			return err
		}
		tags = append(tags, page...)
		return nil
	})
	if err != nil {
		return nil, Explain(reference.FamiliarName(name), err)
	}
	return tags, nil
}

// Catalog gives each repository of a registry to yield. Registries may know more than they tell, or tell nothing.
func (c *Client) Catalog(ctx context.Context, host string, yield func(repository string) error) error {
	reg, err := c.registry(ctx, host)
	if err != nil {
		return err
	}
	pages := newPages()
	err = reg.Repositories(ctx, "", func(page []string) error {
		if err := pages.add(page); err != nil {
			return err
		}
		for _, r := range page {
			if err := yield(r); err != nil {
				return err
			}
		}
		return nil
	})
	return Explain("catalog of "+host, err)
}

// pages bounds a list that comes in pages, and sees whether it goes in circles.
type pages struct {
	seen  map[string]bool
	count int
	idle  int // pages without anything, one after the other
}

func newPages() *pages { return &pages{seen: map[string]bool{}} }

// maxIdle is how many pages may bring nothing: registries leave out what the user may not see.
const maxIdle = 100

func (p *pages) add(page []string) error {
	if p.count++; p.count > maxPages {
		return fmt.Errorf("the registry's list has more than %d pages", maxPages)
	}
	before := len(p.seen)
	for _, name := range page {
		p.seen[name] = true
	}
	switch {
	case len(p.seen) > maxListed:
		return fmt.Errorf("the registry's list has more than %d entries", maxListed)
	case len(p.seen) > before:
		p.idle = 0
	case len(page) > 0 && p.count > 1:
		return errors.New("the registry's list goes in circles: a page has nothing that was not listed before")
	default:
		if p.idle++; p.idle > maxIdle {
			return fmt.Errorf("the registry's list has more than %d empty pages", maxIdle)
		}
	}
	return nil
}
