package image

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
)

// Filter is a set of `--filter key=value` conditions on images. All keys must hold; of one key's values, any may (labels
// excepted: all of them).
type Filter struct {
	dangling      *bool
	labels        []string
	notLabels     []string
	before, since time.Time
	until         time.Time
	references    []string
}

// NewFilter parses conditions. before and since name images, which are looked up now. allowed are the keys that the
// command knows.
func (s *Images) NewFilter(ctx context.Context, conditions []string, allowed ...string) (*Filter, error) {
	f := &Filter{}
	for _, c := range conditions {
		key, value, ok := strings.Cut(c, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok {
			return nil, fmt.Errorf("invalid argument %q for \"-f, --filter\" flag: bad format of filter (expected name=value)", c)
		}
		if !slices.Contains(allowed, key) {
			return nil, fmt.Errorf("Invalid filter '%s'", key) //nolint:staticcheck // Docker's words
		}
		if err := s.addCondition(ctx, f, key, strings.TrimSpace(value)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (s *Images) addCondition(ctx context.Context, f *Filter, key, value string) error {
	switch key {
	case "dangling":
		b, ok := map[string]bool{"1": true, "true": true, "0": false, "false": false}[value]
		if !ok {
			return fmt.Errorf("Invalid filter 'dangling=[%s]'", value) //nolint:staticcheck // Docker's words
		}
		f.dangling = &b
	case "label":
		f.labels = append(f.labels, value)
	case "label!":
		f.notLabels = append(f.notLabels, value)
	case "reference":
		if _, err := reference.FamiliarMatch(value, reference.TrimNamed(mustNamed)); err != nil {
			return fmt.Errorf("invalid filter 'reference=%s': %w", value, err)
		}
		f.references = append(f.references, value)
	case "before", "since":
		img, err := s.Find(ctx, value)
		if err != nil {
			return err
		}
		if key == "before" {
			f.before = img.created()
		} else {
			f.since = img.created()
		}
	case "until":
		t, err := parseUntil(value, time.Now())
		if err != nil {
			return fmt.Errorf("invalid filter 'until=%s': %w", value, err)
		}
		f.until = t
	}
	return nil
}

// mustNamed is any valid name, to try patterns on.
var mustNamed, _ = reference.WithName("docker.io/library/name")

// parseUntil reads a duration before now, or a time.
func parseUntil(value string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(value); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, value, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("use a duration (24h) or a time (2006-01-02T15:04:05)")
}

// Match reports whether img fulfils every condition; names are those of its names that the reference conditions let
// through (all without such a condition).
func (f *Filter) Match(img *Image) (names []string, ok bool) {
	created := img.created()
	switch {
	case !f.before.IsZero() && !created.Before(f.before),
		!f.since.IsZero() && !created.After(f.since),
		!f.until.IsZero() && created.After(f.until),
		f.dangling != nil && *f.dangling != (len(img.Names) == 0):
		return nil, false
	}
	for _, l := range f.labels {
		if !hasLabel(img, l) {
			return nil, false
		}
	}
	for _, l := range f.notLabels {
		if hasLabel(img, l) {
			return nil, false
		}
	}
	if len(f.references) == 0 {
		return img.Names, true
	}
	for _, n := range img.Names {
		if f.matchesReference(n) {
			names = append(names, n)
		}
	}
	return names, len(names) > 0
}

func (f *Filter) matchesReference(name string) bool {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(f.references, func(p string) bool {
		ok, err := reference.FamiliarMatch(p, named)
		return err == nil && ok
	})
}

// hasLabel: "key" for any value, "key=value" for that one.
func hasLabel(img *Image, cond string) bool {
	key, want, withValue := strings.Cut(cond, "=")
	value, ok := img.Config.Config.Labels[key]
	return ok && (!withValue || value == want)
}
