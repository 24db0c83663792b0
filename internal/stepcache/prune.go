package stepcache

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/registry"
)

// PruneRepository is a Repository from which manifests can be removed.
type PruneRepository interface {
	Repository
	// Tags lists the tags of the repository.
	Tags(ctx context.Context) ([]string, error)
	// Delete removes a manifest with its tags. registry.IsNotFound is true of the error if it is not there.
	Delete(ctx context.Context, d ocispec.Descriptor) error
}

// Pruned is what a prune has found and removed.
type Pruned struct {
	// Removed are the tags of the records that were removed.
	Removed []string
	// Records is how many tags of records there were.
	Records int
}

// parallelPrune limits how many manifests are read or removed at the same time.
const parallelPrune = 16

// Prune removes the records that were written before a time and that no build has used since, as far as builds that write the cache say.
// Builds go on beside it: one that has found a record which is removed then runs the step again if the layers are gone too.
func Prune(ctx context.Context, at PruneRepository, before time.Time) (*Pruned, error) {
	tags, err := at.Tags(ctx)
	if err != nil {
		return nil, err
	}
	p := &pruning{at: at, before: before, kept: map[digest.Digest]bool{}, gone: map[digest.Digest]bool{}}
	if err := p.each(ctx, tags, p.use); err != nil {
		return nil, err
	}
	if err := p.each(ctx, tags, p.record); err != nil {
		return nil, err
	}
	if err := p.each(ctx, tags, p.note); err != nil { // last: what is interrupted is repeated with the same result
		return nil, err
	}
	slices.Sort(p.result.Removed)
	return &p.result, nil
}

// pruning is a prune that runs.
type pruning struct {
	at     PruneRepository
	before time.Time

	mu     sync.Mutex
	kept   map[digest.Digest]bool // keys of records that were used
	gone   map[digest.Digest]bool // manifests that were removed
	result Pruned
}

// each calls f with all tags.
func (p *pruning) each(ctx context.Context, tags []string, f func(context.Context, string) error) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelPrune)
	for _, tag := range tags {
		eg.Go(crash.Guard(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return f(ctx, tag)
		}))
	}
	return eg.Wait()
}

// old reports whether a day is before that of the limit.
func (p *pruning) old(day time.Time) bool { return day.Before(p.before.UTC().Truncate(24 * time.Hour)) }

// use reads a list of records that a build has used.
func (p *pruning) use(ctx context.Context, tag string) error {
	day, ok := usedAt(tag)
	if !ok || p.old(day) {
		return nil
	}
	m, err := p.at.Manifest(ctx, tag)
	if registry.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	keys, err := parseUsed(m.Raw)
	if err != nil {
		return fmt.Errorf("list %s: %w", tag, err) // what it would have kept is not known
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range keys {
		p.kept[k] = true
	}
	return nil
}

// record removes a record that is old and was not used.
func (p *pruning) record(ctx context.Context, tag string) error {
	hex, ok := strings.CutPrefix(tag, tagPrefix)
	key := digest.NewDigestFromEncoded(digest.SHA256, hex)
	if !ok || key.Validate() != nil {
		return nil
	}
	p.mu.Lock()
	p.result.Records++
	kept := p.kept[key]
	p.mu.Unlock()
	if kept {
		return nil
	}
	m, err := p.at.Manifest(ctx, tag)
	if registry.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	notes, ok := notesOf(m.Raw, ArtifactType)
	if !ok || p.recent(notes) || p.used(notes[annotationKeys]) {
		return nil
	}
	if err := p.remove(ctx, m.Descriptor); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.Removed = append(p.result.Removed, tag)
	return nil
}

// used reports whether a build has used a record by any of its keys.
func (p *pruning) used(keys string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(strings.Fields(keys), func(k string) bool { return p.kept[digest.Digest(k)] })
}

// recent reports whether a manifest was written after the limit.
func (p *pruning) recent(notes map[string]string) bool {
	at, err := time.Parse(time.RFC3339, notes[annotationWritten])
	return err == nil && !at.Before(p.before)
}

// note removes a lease or a list that is old. A lease that is held is renewed.
func (p *pruning) note(ctx context.Context, tag string) error {
	day, used := usedAt(tag)
	lease := strings.HasPrefix(tag, leasePrefix)
	if !lease && (!used || !p.old(day)) {
		return nil
	}
	m, err := p.at.Manifest(ctx, tag)
	if registry.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if lease {
		notes, ok := notesOf(m.Raw, LeaseType)
		if at, err := time.Parse(time.RFC3339, notes[annotationWritten]); !ok || p.recent(notes) || err == nil && time.Since(at) < leaseLongest {
			return nil
		}
	} else if _, ok := notesOf(m.Raw, UsedType); !ok {
		return nil
	}
	return p.remove(ctx, m.Descriptor)
}

// remove removes a manifest, which may have had several tags.
func (p *pruning) remove(ctx context.Context, d ocispec.Descriptor) error {
	p.mu.Lock()
	gone := p.gone[d.Digest]
	p.gone[d.Digest] = true
	p.mu.Unlock()
	if gone {
		return nil
	}
	if err := p.at.Delete(ctx, d); err != nil && !registry.IsNotFound(err) {
		return err
	}
	return nil
}

// notesOf returns the annotations of a manifest of a kind.
func notesOf(raw []byte, kind string) (map[string]string, bool) {
	var m ocispec.Manifest
	if json.Unmarshal(raw, &m) != nil || m.ArtifactType != kind {
		return nil, false
	}
	return m.Annotations, true
}
