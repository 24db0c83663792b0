package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distribution/reference"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/prune"
	"github.com/micabuild/mica/internal/stepcache"
	"github.com/micabuild/mica/internal/transfer"
)

// runRemotePrune removes records of a cache of mode=steps.
func runRemotePrune(ctx context.Context, app *command.App, f *builderPruneFlags) error {
	now := time.Now()
	limits, err := prune.ParseLimits(f.all, f.filters, f.keepStorage, now)
	if err != nil {
		return err
	}
	if f.keepStorage != "" {
		return errors.New("--keep-storage cannot be used with --remote: use --filter until=DURATION")
	}
	if f.all == (len(f.filters) > 0) {
		return errors.New("--remote needs --filter until=DURATION for records that were not used since, or --all for all records")
	}
	name, err := reference.ParseNormalizedNamed(f.remote)
	if err != nil {
		return fmt.Errorf("invalid --remote %q: %w", f.remote, err)
	}
	if !reference.IsNameOnly(name) {
		return fmt.Errorf("invalid --remote %q: a cache of mode=steps is a repository, without a tag or digest", f.remote)
	}
	if !f.force && !app.Confirm(ctx, "WARNING! This will remove steps of the cache "+f.remote+" for all that use it. Are you sure you want to continue? [y/N] ") {
		return nil
	}
	before := now.Add(-limits.Age)
	if f.all { // lists of this day, and clocks that are fast
		before = now.Add(48 * time.Hour)
	}
	at, err := transfer.OpenCache(ctx, app.Registry(), nil, name, transfer.PushOptions{})
	if err != nil {
		return err
	}
	pruned, err := stepcache.Prune(ctx, at, before)
	if err != nil {
		return fmt.Errorf("prune %s: %w", f.remote, err)
	}
	if len(pruned.Removed) > 0 {
		fmt.Fprintln(app.Stdout, "Deleted step records:")
		for _, tag := range pruned.Removed {
			fmt.Fprintln(app.Stdout, tag)
		}
		fmt.Fprintln(app.Stdout)
	}
	fmt.Fprintf(app.Stdout, "Total: %d of %d step records\n", len(pruned.Removed), pruned.Records)
	return nil
}
