package registry

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
)

// What is taken from a registry: tags or repositories, and pages of them.
const (
	maxListed = 1_000_000
	maxPages  = 10_000
)

// Tags lists the tags of a repository, in the registry's order, which the specification wants to be the alphabet's.
func (c *Client) Tags(ctx context.Context, name reference.Named) ([]string, error) {
	at, err := home(name)
	if err != nil {
		return nil, err
	}
	repo, err := c.repository(ctx, at)
	if err != nil {
		return nil, err
	}
	var tags []string
	err = repo.Tags(ctx, "", func(page []string) error {
		if tags = append(tags, page...); len(tags) > maxListed {
			return fmt.Errorf("the repository has more than %d tags", maxListed)
		}
		return nil
	})
	if err != nil {
		return nil, explain(reference.FamiliarName(name), err)
	}
	return tags, nil
}

// Catalog gives each repository of a registry to yield. Registries may know more than they tell, or tell nothing.
func (c *Client) Catalog(ctx context.Context, host string, yield func(repository string) error) error {
	reg, err := c.registry(ctx, host)
	if err != nil {
		return err
	}
	n, pages := 0, 0
	err = reg.Repositories(ctx, "", func(page []string) error {
		if pages++; pages > maxPages {
			return fmt.Errorf("the registry's catalog has more than %d pages", maxPages)
		}
		for _, r := range page {
			if n++; n > maxListed {
				return fmt.Errorf("the registry has more than %d repositories", maxListed)
			}
			if err := yield(r); err != nil {
				return err
			}
		}
		return nil
	})
	return explain("catalog of "+host, err)
}
