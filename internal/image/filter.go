package image

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
)

// Filter is a set of `--filter key=value` conditions on images. An image matches if it matches every key. It matches a key if
// it matches one of the key's values; of labels it must match all.
type Filter struct {
	dangling      *bool
	labels        []string
	notLabels     []string
	before, since time.Time
	until         time.Time
	references    []string
}

// NewFilter parses conditions. The values of before and since are images, which it finds. allowed are the keys of the
// command.
func (s *Images) NewFilter(ctx context.Context, conditions []string, allowed ...string) (*Filter, error) {
	f := &Filter{}
	for _, c := range conditions {
		key, value, ok := strings.Cut(c, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok {
			return nil, fmt.Errorf("invalid argument %q for \"-f, --filter\" flag: bad format of filter (expected name=value)", c)
		}
		if !slices.Contains(allowed, key) {
			return nil, fmt.Errorf("invalid filter '%s'", key)
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
			return fmt.Errorf("invalid filter 'dangling=[%s]'", value)
		}
		f.dangling = &b
	case "label":
		f.labels = append(f.labels, value)
	case "label!":
		f.notLabels = append(f.notLabels, value)
	case "reference":
		if _, err := reference.FamiliarMatch(value, reference.TrimNamed(anyName)); err != nil {
			return fmt.Errorf("invalid filter 'reference=%s': %w", value, err)
		}
		f.references = append(f.references, value)
	case "before", "since":
		img, err := s.Find(ctx, value)
		if err != nil {
			return err
		}
		if key == "before" {
			f.before = img.Created()
		} else {
			f.since = img.Created()
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

// anyName is a valid name to check patterns with.
var anyName, _ = reference.WithName("docker.io/library/name")

// parseUntil parses a duration before now, or a time.
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

// Match reports whether img matches. names are its names that match the reference conditions, or all without such a
// condition.
func (f *Filter) Match(img *Image) (names []string, ok bool) {
	created := img.Created()
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

// hasLabel reports whether an image has a label: "key" with any value, or "key=value".
func hasLabel(img *Image, cond string) bool {
	key, want, withValue := strings.Cut(cond, "=")
	value, ok := img.Config.Config.Labels[key]
	return ok && (!withValue || value == want)
}
