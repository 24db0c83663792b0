package imagediff

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"

	"github.com/micabuild/mica/internal/catalog"
	"github.com/micabuild/mica/internal/inspect"
)

// Options select what is compared.
type Options struct {
	// Only are the names of the sections to compare; all if it is empty.
	Only []string
	// IgnoreTimes ignores times: of files, of the config, and of lines of history.
	IgnoreTimes bool
	// IgnoreOwners ignores the owners of files.
	IgnoreOwners bool
	// Ignore are patterns of paths of files to leave out.
	Ignore []string
	// Text are patterns of paths of files whose contents are compared as text.
	Text []string
	// Causes classifies the differences.
	Causes bool
	// Packages lists packages; nil to compare none.
	Packages *catalog.Cataloguer
}

// includes reports whether a section is compared.
func (o Options) includes(section string) bool {
	return len(o.Only) == 0 || slices.Contains(o.Only, section)
}

func (o Options) ignores(a Aspect) bool {
	return o.IgnoreTimes && a == Time || o.IgnoreOwners && a == Owner
}

// reduced reports whether something is ignored: layers that differ then say nothing.
func (o Options) reduced() bool { return o.IgnoreTimes || o.IgnoreOwners || len(o.Ignore) > 0 }

// section is a part of a report.
type section struct {
	name string
	// compare sets the section's field of the report.
	compare func(ctx context.Context, a, b *inspect.Image, o Options, r *Report) error
	// same reports whether the section has no difference.
	same func(r *Report, o Options) bool
	// needsConfig is set if directories and layers do not have it.
	needsConfig bool
}

// Sections with names that are needed elsewhere.
const (
	sectionPackages = "packages"
	sectionFiles    = "files"
)

// sections are the parts of a report, in its order.
var sections = []section{
	{"config", compareConfig, func(r *Report, _ Options) bool { return len(r.Config.Changes) == 0 }, true},
	{"history", compareHistory, func(r *Report, _ Options) bool { return len(r.History.Changes) == 0 }, true},
	{"layers", compareLayers, func(r *Report, o Options) bool {
		return o.reduced() || r.Layers.Removed.Count+r.Layers.Added.Count == 0
	}, true},
	{sectionPackages, comparePackages, func(r *Report, _ Options) bool { return r.Packages == nil || len(r.Packages.Changes) == 0 }, false},
	{sectionFiles, compareFiles, func(r *Report, _ Options) bool { return len(r.Files.Changes) == 0 }, false},
}

// Sections are the names of the sections.
func Sections() (names []string) {
	for _, s := range sections {
		names = append(names, s.name)
	}
	return names
}

// Compare compares two images. Of layers in registries it reads tables of contents where there are any. Before it reports that there is no
// difference, or none of files, and to find causes, it fetches the layers themselves.
func Compare(ctx context.Context, a, b *inspect.Image, o Options) (*Report, error) {
	for _, name := range o.Only {
		if !slices.Contains(Sections(), name) {
			return nil, fmt.Errorf("unknown section %q: there are %s", name, strings.Join(Sections(), ", "))
		}
	}
	r, err := compare(ctx, a, b, o)
	if err != nil {
		return nil, err
	}
	if r.Same || r.sameFiles() || o.Causes {
		fetched, err := verify(ctx, a, b)
		if err != nil {
			return nil, err
		}
		if fetched {
			if r, err = compare(ctx, a, b, o); err != nil {
				return nil, err
			}
		}
	}
	r.addUnverified(a, b)
	if o.Causes {
		return r, findCauses(ctx, a, b, r)
	}
	return r, nil
}

func compare(ctx context.Context, a, b *inspect.Image, o Options) (*Report, error) {
	r := &Report{Schema: Schema, A: newSubject(a), B: newSubject(b), Same: true, Notes: partsOfIndexes(a, b)}
	bare := withoutConfig(a, b)
	for _, s := range sections {
		if !o.includes(s.name) {
			continue
		}
		if bare != "" && s.needsConfig {
			if len(o.Only) > 0 {
				return nil, fmt.Errorf("%s has no %s to compare", bare, s.name)
			}
			continue
		}
		if err := s.compare(ctx, a, b, o, r); err != nil {
			return nil, err
		}
		r.Same = r.Same && s.same(r, o)
	}
	if bare != "" && len(o.Only) == 0 {
		r.Notes = append(r.Notes, bare+" has neither config nor history: they were not compared")
	}
	return r, nil
}

// withoutConfig returns the name of one that is not an image, such as a directory; "" if both are images.
func withoutConfig(images ...*inspect.Image) string {
	for _, i := range images {
		if i.RawConfig == nil {
			return i.Name
		}
	}
	return ""
}

// partsOfIndexes says of which image only a part was compared: of an index that is not that of the other image.
func partsOfIndexes(a, b *inspect.Image) (notes []string) {
	if a.Root.Digest == b.Root.Digest {
		return nil
	}
	for _, i := range []*inspect.Image{a, b} {
		if i.Root.Digest != i.Target.Digest {
			notes = append(notes, fmt.Sprintf("%s is an index: its image for %s was compared, and nothing else in it", i.Name, platforms.Format(i.Platform())))
		}
	}
	return notes
}

func newSubject(i *inspect.Image) Subject {
	s := Subject{Name: i.Name, Kind: i.Kind, ID: i.ID, Manifest: i.Target.Digest}
	if i.RawConfig != nil {
		s.Platform = platforms.Format(i.Platform())
	}
	return s
}
