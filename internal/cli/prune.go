package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/sources"
	"github.com/micabuild/mica/internal/store"
)

type imagePruneFlags struct {
	all, force bool
	filters    filterFlag
}

func newImagePruneCommand(app *App) *cobra.Command {
	var f imagePruneFlags
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove unused images",
		Args:  requireArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runImagePrune(cmd.Context(), app, &f)
		},
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "Remove all unused images, not just dangling ones")
	cmd.Flags().BoolVarP(&f.force, "force", "f", false, "Do not prompt for confirmation")
	cmd.Flags().Var(&f.filters, "filter", `Provide filter values (e.g. "until=<timestamp>")`)
	return cmd
}

func runImagePrune(ctx context.Context, app *App, f *imagePruneFlags) error {
	question := "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
	if f.all {
		question = "WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to continue? [y/N] "
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	if !f.force && !confirm(ctx, app, question) {
		return nil
	}
	filter, err := app.Images.NewFilter(ctx, f.filters, "until", "label", "label!", "dangling")
	if err != nil {
		return err
	}
	lines, err := app.Images.Prune(ctx, f.all, filter)
	if err != nil {
		return err
	}
	freed, err := app.sweep(ctx)
	if err != nil {
		return err
	}
	if len(lines) > 0 {
		fmt.Fprintln(app.Stdout, "Deleted Images:")
		for _, l := range lines {
			if l.Deleted != "" {
				fmt.Fprintln(app.Stdout, "deleted: "+l.Deleted)
			} else {
				fmt.Fprintln(app.Stdout, "untagged: "+l.Untagged)
			}
		}
		fmt.Fprintln(app.Stdout)
	}
	fmt.Fprintln(app.Stdout, "Total reclaimed space: "+units.HumanSize(float64(freed)))
	return nil
}

// confirm asks a question that only y answers with yes.
func confirm(ctx context.Context, app *App, question string) bool {
	fmt.Fprint(app.Stdout, question)
	line, _ := bufio.NewReader(app.input(ctx)).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(line), "y")
}

type builderPruneFlags struct {
	all, force  bool
	filters     filterFlag
	keepStorage string
}

func newBuilderPruneCommand(app *App) *cobra.Command {
	var f builderPruneFlags
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove build cache",
		Args:  requireArgs(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return runBuilderPrune(cmd.Context(), app, &f) },
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "Remove all build cache, not just what no image shares layers with")
	fl.BoolVarP(&f.force, "force", "f", false, "Do not prompt for confirmation")
	fl.Var(&f.filters, "filter", `Provide filter values (e.g. "until=24h")`)
	fl.StringVar(&f.keepStorage, "keep-storage", "", "Amount of disk space to keep for cache")
	return cmd
}

func runBuilderPrune(ctx context.Context, app *App, f *builderPruneFlags) error {
	before, keep, err := f.limits()
	if err != nil {
		return err
	}
	question := "WARNING! This will remove all dangling build cache. Are you sure you want to continue? [y/N] "
	if f.all {
		question = "WARNING! This will remove all build cache. Are you sure you want to continue? [y/N] "
	}
	if err := app.Open(ctx); err != nil {
		return err
	}
	if !f.force && !confirm(ctx, app, question) {
		return nil
	}
	cache := solver.NewCache(app.Store)
	records, err := cache.Records()
	if err != nil {
		return err
	}
	removed, err := pruneRecords(ctx, app, cache, records, f.all, before, keep)
	if err != nil {
		return err
	}
	mounts, mounted, err := pruneMounts(cache, before, keep)
	if err != nil {
		return err
	}
	removed = append(removed, mounts...)
	if f.all && len(f.filters) == 0 && keep == 0 {
		sources, err := sources.RemoveCaches(app.Store)
		if err != nil {
			return err
		}
		mounted += sources
	}
	freed, err := app.sweep(ctx)
	if err != nil {
		return err
	}
	freed += mounted
	if len(removed) > 0 {
		fmt.Fprintln(app.Stdout, "Deleted build cache objects:")
		for _, id := range removed {
			fmt.Fprintln(app.Stdout, id)
		}
		fmt.Fprintln(app.Stdout)
	}
	fmt.Fprintln(app.Stdout, "Total reclaimed space: "+units.HumanSize(float64(freed)))
	return nil
}

// limits reads the flags: records used since before stay, and so do the last used ones that together take keep bytes.
func (f *builderPruneFlags) limits() (before time.Time, keep int64, err error) {
	before = time.Now()
	for _, c := range f.filters {
		key, value, _ := strings.Cut(c, "=")
		d, err := time.ParseDuration(value)
		if (key != "until" && key != "unused-for") || err != nil {
			return before, 0, fmt.Errorf("invalid filter %q: use until=DURATION, for example until=24h", c)
		}
		before = before.Add(-d)
	}
	if f.keepStorage != "" {
		if keep, err = units.RAMInBytes(f.keepStorage); err != nil {
			return before, 0, fmt.Errorf("invalid value %q for --keep-storage: %w", f.keepStorage, err)
		}
	}
	return before, keep, nil
}

// pruneRecords forgets records, least recently used first, and returns the IDs of those that went. Those that a build uses stay.
func pruneRecords(ctx context.Context, app *App, cache *solver.Cache, records []*solver.Record, all bool, before time.Time, keep int64) ([]string, error) {
	images, _ := app.Images.List(ctx)
	used := map[string]bool{}
	for _, img := range images {
		for _, id := range img.Chain() {
			used[id.String()] = true
		}
	}
	sizes := newCacheSizes(app, records)
	var removed []string
	for _, r := range records {
		if r.Used.After(before) || (!all && allUsed(r, used)) || sizes.total <= keep && keep > 0 {
			continue
		}
		used, err := app.Store.IsHeld(store.HeldStep, r.Key)
		if err != nil {
			return removed, err
		}
		if used {
			continue
		}
		if err := cache.Remove(r); err != nil {
			return removed, err
		}
		sizes.remove(r)
		removed = append(removed, r.Key.Encoded()[:25])
	}
	return removed, nil
}

// pruneMounts removes cache mounts that no step has, least recently used first, and returns the IDs of those that went and their size.
func pruneMounts(cache *solver.Cache, before time.Time, keep int64) (removed []string, freed int64, err error) {
	mounts, err := cache.CacheMounts()
	total := int64(0)
	for _, m := range mounts {
		total += m.Size
	}
	for _, m := range mounts {
		if m.Used.After(before) || keep > 0 && total <= keep {
			continue
		}
		ok, err := cache.RemoveCacheMount(m)
		if err != nil {
			return removed, freed, err
		}
		if !ok {
			continue
		}
		total, freed = total-m.Size, freed+m.Size
		removed = append(removed, m.Name[:25])
	}
	return removed, freed, err
}

// allUsed reports whether images have all layers of a record: forgetting it would free nothing.
func allUsed(r *solver.Record, used map[string]bool) bool {
	for _, id := range r.Layers() {
		if !used[id.String()] {
			return false
		}
	}
	return true
}

// cacheSizes knows how much space the layers of the build cache take, each counted once.
type cacheSizes struct {
	total int64
	size  map[string]int64
	refs  map[string]int
}

func newCacheSizes(app *App, records []*solver.Record) *cacheSizes {
	s := &cacheSizes{size: map[string]int64{}, refs: map[string]int{}}
	for _, r := range records {
		for _, id := range r.Layers() {
			key := id.String()
			if s.refs[key]++; s.refs[key] == 1 {
				if l, err := app.Layers.Get(id); err == nil {
					s.size[key] = l.Size
					s.total += l.Size
				}
			}
		}
	}
	return s
}

func (s *cacheSizes) remove(r *solver.Record) {
	for _, id := range r.Layers() {
		key := id.String()
		if s.refs[key]--; s.refs[key] == 0 {
			s.total -= s.size[key]
		}
	}
}
