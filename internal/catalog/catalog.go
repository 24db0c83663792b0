// Package catalog lists the packages that are installed in a filesystem: those of the system's package manager, of languages, and the
// modules of binaries. The program mica-catalog, which is installed with mica, knows their formats. It reads the files that this
// package serves to it. Lists are kept in the store by the chain of layers that they were made of.
package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/hostfiles"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// Program is the name of the program that catalogues.
const Program = "mica-catalog"

// Protocol is the version of the protocol that Program has to speak; its --version says which it does.
const Protocol = protocolVersion

// NotInstalledError is the error of a host without mica-catalog.
type NotInstalledError struct{}

func (*NotInstalledError) Error() string {
	return Program + " is not installed: put it beside mica or on PATH; it comes in mica's packages and archives"
}

// Catalog is what a filesystem has installed.
type Catalog struct {
	// Packages are sorted by type, name, version and path. Each is there once.
	Packages []Package `json:"packages"`
	// Skipped are files that could not be read, each with the reason.
	Skipped []string `json:"skipped,omitempty"`
}

// Cataloguer makes catalogues.
type Cataloguer struct {
	Store *store.Store
	// Program is the path of mica-catalog, "" to find it.
	Program string
}

// Chain returns the catalogue of a chain of layers. open returns its filesystem; it is not called for a chain that the store has the
// catalogue of. What has no layers, such as a directory, may change: its catalogue is not kept.
func (c *Cataloguer) Chain(ctx context.Context, chain []digest.Digest, open func(context.Context) (view.View, error)) (*Catalog, error) {
	key := cacheKey(chain)
	if len(chain) > 0 {
		if found := c.load(key); found != nil {
			return found, nil
		}
	}
	v, err := open(ctx)
	if err != nil {
		return nil, err
	}
	made, again, err := c.view(ctx, v)
	if err == nil && len(chain) > 0 && !again {
		c.save(key, made)
	}
	return made, err
}

// View catalogues a filesystem.
func (c *Cataloguer) View(ctx context.Context, v view.View) (*Catalog, error) {
	made, _, err := c.view(ctx, v)
	return made, err
}

// view catalogues a filesystem. It returns in again whether another try may find more.
func (c *Cataloguer) view(ctx context.Context, v view.View) (_ *Catalog, again bool, err error) {
	program, err := c.find(ctx)
	if err != nil {
		return nil, false, err
	}
	tmp, err := c.Store.TempDir("catalog")
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = tmp.Remove() }()
	out, again, err := serveAll(ctx, program, tmp.Path, v)
	if err != nil {
		return nil, false, fmt.Errorf("catalogue packages: %w", err)
	}
	out.normalize()
	return out, again, nil
}

// Find returns a *NotInstalledError on a host without mica-catalog.
func (c *Cataloguer) Find(ctx context.Context) error {
	_, err := c.find(ctx)
	return err
}

// find returns the path of mica-catalog: beside mica, or else on PATH.
func (c *Cataloguer) find(ctx context.Context) (program string, err error) {
	err = hostfiles.With(ctx, func() error {
		program, err = c.look()
		return err
	})
	return program, err
}

func (c *Cataloguer) look() (string, error) {
	if c.Program != "" {
		if _, err := os.Stat(c.Program); errors.Is(err, fs.ErrNotExist) {
			return "", &NotInstalledError{}
		}
		return c.Program, nil
	}
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			beside := filepath.Join(filepath.Dir(self), Program)
			if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return beside, nil
			}
		}
	}
	found, err := exec.LookPath(Program)
	if err != nil {
		return "", &NotInstalledError{}
	}
	return found, nil
}

// normalize gives the catalogue its only order: the same files give the same bytes.
func (c *Catalog) normalize() {
	slices.SortFunc(c.Packages, func(a, b Package) int {
		return cmp.Or(
			strings.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version),
			strings.Compare(a.Path, b.Path), strings.Compare(a.PURL, b.PURL), slices.Compare(a.Licenses, b.Licenses),
		)
	})
	c.Packages = slices.CompactFunc(c.Packages, func(a, b Package) bool {
		return a.Type == b.Type && a.Name == b.Name && a.Version == b.Version && a.Path == b.Path && a.PURL == b.PURL
	})
	slices.Sort(c.Skipped)
}
