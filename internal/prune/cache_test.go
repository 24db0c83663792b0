package prune

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/cachemount"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func id(name string) digest.Digest { return digest.FromString(name) }

// steps makes steps of the words "NAME:LAYER,LAYER", each used an hour after the one before it, the last one an hour ago.
func steps(words string) (list []step) {
	fields := strings.Fields(words)
	for i, w := range fields {
		name, layers, _ := strings.Cut(w, ":")
		s := step{key: id(name), used: now.Add(-time.Duration(len(fields)-i) * time.Hour)}
		for _, l := range strings.FieldsFunc(layers, func(r rune) bool { return r == ',' }) {
			s.layers = append(s.layers, id(l))
		}
		list = append(list, s)
	}
	return list
}

// set is a set of layers.
func set(names string) map[digest.Digest]bool {
	m := map[digest.Digest]bool{}
	for _, n := range strings.Fields(names) {
		m[id(n)] = true
	}
	return m
}

// sized returns the sizes of layers, 10 for those that are not named.
func sized(of map[string]int64) func(digest.Digest) int64 {
	return func(d digest.Digest) int64 {
		for name, n := range of {
			if id(name) == d {
				return n
			}
		}
		return 10
	}
}

func TestParseLimits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		all     bool
		filters []string
		keep    string
		want    Limits
		fails   string
		nothing bool // is kept
	}{
		"no flags":        {},
		"all":             {all: true, want: Limits{All: true}, nothing: true},
		"until":           {filters: []string{"until=24h"}, want: Limits{Age: 24 * time.Hour, filter: true}},
		"unused for":      {filters: []string{"unused-for=90m"}, want: Limits{Age: 90 * time.Minute, filter: true}},
		"filters add up":  {all: true, filters: []string{"until=1h", "until=2h"}, want: Limits{All: true, Age: 3 * time.Hour, filter: true}},
		"until 0":         {all: true, filters: []string{"until=0s"}, want: Limits{All: true, filter: true}},
		"keep":            {all: true, keep: "2kb", want: Limits{All: true, Keep: 2048}},
		"keep nothing":    {all: true, keep: "0", want: Limits{All: true}, nothing: true},
		"another filter":  {filters: []string{"label=x"}, fails: `invalid filter "label=x": use until=DURATION, for example until=24h`},
		"no duration":     {filters: []string{"until=yesterday"}, fails: `invalid filter "until=yesterday": use until=DURATION, for example until=24h`},
		"no value":        {filters: []string{"until"}, fails: `invalid filter "until": use until=DURATION, for example until=24h`},
		"keep of no size": {keep: "much", fails: `invalid value "much" for --keep-storage: `},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseLimits(tt.all, tt.filters, tt.keep, now)
			if tt.fails != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.fails) {
					t.Errorf("error %v, want %s", err, tt.fails)
				}
				return
			}
			tt.want.Now = now
			if err != nil || got.All != tt.want.All || got.Age != tt.want.Age || got.Keep != tt.want.Keep || got.filter != tt.want.filter {
				t.Errorf("%+v, %v, want %+v", got, err, tt.want)
			}
			if got.everything() != tt.nothing {
				t.Errorf("removes everything: %t", got.everything())
			}
		})
	}
}

func TestPruneSteps(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limits   Limits
		steps    string
		inImages string
		held     string
		want     string
	}{
		"nothing":                        {limits: Limits{All: true}},
		"all":                            {limits: Limits{All: true}, steps: "a:1 b:1,2 c:1,2,3", inImages: "1 2 3", want: "a b c"},
		"what images have stays":         {steps: "a:1 b:1,2 c:1,2,3", inImages: "1 2", want: "c"},
		"what images have in part goes":  {steps: "a:1,2", inImages: "2", want: "a"},
		"a step of no layers stays":      {steps: "a b:1", want: "b"},
		"a step of no layers goes":       {limits: Limits{All: true}, steps: "a b:1", want: "a b"},
		"held stays":                     {limits: Limits{All: true}, steps: "a:1 b:2 c:3", held: "b", want: "a c"},
		"older than":                     {limits: Limits{All: true, Age: 150 * time.Minute}, steps: "a:1 b:2 c:3", want: "a"},
		"exactly as old":                 {limits: Limits{All: true, Age: 2 * time.Hour}, steps: "a:1 b:2 c:3", want: "a b"},
		"keep what was used last":        {limits: Limits{All: true, Keep: 25}, steps: "a:1 b:2 c:3", want: "a"},
		"keep exactly":                   {limits: Limits{All: true, Keep: 20}, steps: "a:1 b:2 c:3", want: "a"},
		"keep less than one":             {limits: Limits{All: true, Keep: 5}, steps: "a:1 b:2 c:3", want: "a b c"},
		"keep more than there is":        {limits: Limits{All: true, Keep: 1000}, steps: "a:1 b:2 c:3"},
		"shared layers count once":       {limits: Limits{All: true, Keep: 40}, steps: "a:1 b:1,2 c:1,2,3", want: ""},
		"shared layers go with the last": {limits: Limits{All: true, Keep: 15}, steps: "a:1 b:1 c:2", want: "a b"},
		"held does not count as freed":   {limits: Limits{All: true, Keep: 25}, steps: "a:1 b:2 c:3", held: "a", want: "b"},
		"keep beside age":                {limits: Limits{All: true, Keep: 5, Age: 150 * time.Minute}, steps: "a:1 b:2 c:3", want: "a"},
		"keep beside images":             {limits: Limits{Keep: 15}, steps: "a:1 b:2 c:3", inImages: "1", want: "b c"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.limits.Now = now
			held := set(tt.held)
			got, err := pruneSteps(tt.limits, steps(tt.steps), set(tt.inImages), sized(nil), func(key digest.Digest) (bool, error) { return !held[key], nil })
			var want []string
			for _, n := range strings.Fields(tt.want) {
				want = append(want, id(n).Encoded()[:25])
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("removed %q, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestPruneMounts(t *testing.T) {
	t.Parallel()
	name := func(n string) string { return strings.Repeat(n, 64) }
	mounts := []cachemount.Mount{
		{Name: name("a"), Size: 100, Used: now.Add(-3 * time.Hour)},
		{Name: name("b"), Size: 20, Used: now.Add(-2 * time.Hour)},
		{Name: name("c"), Size: 30, Used: now.Add(-1 * time.Hour)},
	}
	for title, tt := range map[string]struct {
		limits Limits
		held   string
		want   string
		freed  int64
	}{
		"all":                            {want: "a b c", freed: 150},
		"in use":                         {held: "b", want: "a c", freed: 130},
		"older than":                     {limits: Limits{Age: 90 * time.Minute}, want: "a b", freed: 120},
		"keep what was used last":        {limits: Limits{Keep: 50}, want: "a", freed: 100},
		"keep less":                      {limits: Limits{Keep: 40}, want: "a b", freed: 120},
		"what is in use counts as kept":  {limits: Limits{Keep: 100}, held: "a", want: "b c", freed: 50},
		"more than there is may be kept": {limits: Limits{Keep: 1000}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			tt.limits.Now = now
			got, freed, err := pruneMounts(tt.limits, mounts, func(m cachemount.Mount) (bool, error) { return tt.held == "" || m.Name != name(tt.held), nil })
			var want []string
			for _, n := range strings.Fields(tt.want) {
				want = append(want, name(n)[:25])
			}
			if err != nil || !slices.Equal(got, want) || freed != tt.freed {
				t.Errorf("removed %q, %d bytes, %v, want %q, %d", got, freed, err, want, tt.freed)
			}
		})
	}
}

// What was removed before an error is returned with it.
func TestPruneThatFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	n := 0
	second := func() (bool, error) {
		if n++; n == 2 {
			return false, broken
		}
		return true, nil
	}
	got, err := pruneSteps(Limits{All: true, Now: now}, steps("a:1 b:2 c:3"), nil, sized(nil), func(digest.Digest) (bool, error) { return second() })
	if len(got) != 1 || !errors.Is(err, broken) {
		t.Errorf("removed %q, %v", got, err)
	}
	n = 0
	mount := cachemount.Mount{Name: "name", Size: 7}
	got, freed, err := pruneMounts(Limits{Now: now}, []cachemount.Mount{mount, mount, mount}, func(cachemount.Mount) (bool, error) { return second() })
	if diff := cmp.Diff([]string{"name"}, got); diff != "" || freed != 7 || !errors.Is(err, broken) {
		t.Errorf("%d bytes, %v, removed: %s", freed, err, diff)
	}
}
