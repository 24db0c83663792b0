package builder

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildcache"
)

// second is a time; 0 is none.
func second(n int64) *time.Time {
	if n == 0 {
		return nil
	}
	at := time.Unix(n, 0).UTC()
	return &at
}

// link is a layer made at a time, 0 for none.
func link(name string, at int64) buildcache.Link {
	l := buildcache.Link{DiffID: digest.FromString(name), Description: "made " + name}
	if at != 0 {
		l.Created = *second(at)
	}
	return l
}

func TestFinishHistory(t *testing.T) {
	t.Parallel()
	entry := func(by string, at int64, empty bool) ocispec.History {
		return ocispec.History{CreatedBy: by, Created: second(at), EmptyLayer: empty}
	}
	for name, c := range map[string]struct {
		history []ocispec.History
		chain   []buildcache.Link
		want    []ocispec.History
	}{
		"nothing": {},
		"times of the layers": {
			history: []ocispec.History{entry("a", 0, false), entry("b", 0, false)}, chain: []buildcache.Link{link("a", 1), link("b", 2)},
			want: []ocispec.History{entry("a", 1, false), entry("b", 2, false)},
		},
		"own times stay": {
			history: []ocispec.History{entry("a", 9, false)}, chain: []buildcache.Link{link("a", 1)}, want: []ocispec.History{entry("a", 9, false)},
		},
		"empty entries get the time of the first new layer": {
			history: []ocispec.History{entry("base", 5, false), entry("env", 0, true), entry("a", 0, false)},
			chain:   []buildcache.Link{link("base", 5), link("a", 7)},
			want:    []ocispec.History{entry("base", 5, false), entry("env", 7, true), entry("a", 7, false)},
		},
		"without a new layer that of the last entry": {
			history: []ocispec.History{entry("base", 5, false), entry("env", 0, true)}, chain: []buildcache.Link{link("base", 5)},
			want: []ocispec.History{entry("base", 5, false), entry("env", 5, true)},
		},
		"too few entries": {
			history: []ocispec.History{entry("a", 0, false)}, chain: []buildcache.Link{link("a", 1), link("b", 2)},
			want: []ocispec.History{entry("a", 1, false), {CreatedBy: "made b", Created: second(2), Comment: "buildkit.exporter.image.v0"}},
		},
		"too many entries": {
			history: []ocispec.History{entry("a", 0, false), entry("b", 0, false)}, chain: []buildcache.Link{link("a", 1)},
			want: []ocispec.History{entry("a", 1, false), entry("b", 1, true)},
		},
		"credentials of URLs": {
			history: []ocispec.History{entry("ADD https://user:pw@host/x /", 1, false)}, chain: []buildcache.Link{link("a", 1)},
			want: []ocispec.History{entry("ADD https://xxxxx:xxxxx@host/x /", 1, false)},
		},
		"no time is known": {
			history: []ocispec.History{entry("a", 0, false)}, chain: []buildcache.Link{link("a", 0)}, want: []ocispec.History{entry("a", 0, false)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, finishHistory(c.history, c.chain)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestClampHistory(t *testing.T) {
	t.Parallel()
	times := func(seconds ...int64) []ocispec.History {
		var h []ocispec.History
		for _, s := range seconds {
			h = append(h, ocispec.History{Created: second(s)})
		}
		return h
	}
	base := &ocispec.Image{History: times(90, 95)}
	for name, c := range map[string]struct {
		history []ocispec.History
		epoch   int64
		base    *ocispec.Image
		want    []ocispec.History
	}{
		"no epoch":               {history: times(100), want: times(100)},
		"later and earlier":      {history: times(100, 10), epoch: 50, want: times(50, 10)},
		"of the base image":      {history: times(90, 95, 100), epoch: 50, base: base, want: times(90, 95, 50)},
		"like the base image's":  {history: times(90, 100, 95), epoch: 50, base: base, want: times(90, 50, 50)},
		"no time is the epoch's": {history: times(0), epoch: 50, want: times(50)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clampHistory(c.history, second(c.epoch), c.base)
			if diff := cmp.Diff(c.want, c.history); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFinishConfig(t *testing.T) {
	t.Parallel()
	a := digest.FromString("a").String()
	for name, c := range map[string]struct {
		config string
		chain  []buildcache.Link
		epoch  int64
		want   string
		err    string
	}{
		"unknown fields stay": {
			config: `{"architecture":"amd64","os":"linux","more":{"x":1}}`,
			want:   `{"architecture":"amd64","os":"linux","more":{"x":1},"created":null,"history":null,"rootfs":{"type":"layers","diff_ids":null}}`,
		},
		"layers and times": {
			config: `{"history":[{"created_by":"a"}]}`, chain: []buildcache.Link{link("a", 1)},
			want: `{"history":[{"created":"1970-01-01T00:00:01Z","created_by":"a"}],"created":"1970-01-01T00:00:01Z","rootfs":{"type":"layers","diff_ids":["` + a + `"]}}`,
		},
		"epoch": {
			config: `{"history":[{"created_by":"a"}],"created":"1970-01-01T00:01:00Z"}`, chain: []buildcache.Link{link("a", 90)}, epoch: 30,
			want: `{"history":[{"created":"1970-01-01T00:00:30Z","created_by":"a"}],"created":"1970-01-01T00:00:30Z","rootfs":{"type":"layers","diff_ids":["` + a + `"]}}`,
		},
		"time of the compiler": {
			config: `{"created":"1970-01-01T00:01:00Z"}`,
			want:   `{"created":"1970-01-01T00:01:00Z","history":null,"rootfs":{"type":"layers","diff_ids":null}}`,
		},
		"not JSON":     {config: `x`, err: "image config: invalid character 'x' looking for beginning of value"},
		"history":      {config: `{"history":1}`, err: "image config: history: json: cannot unmarshal number into Go value of type []v1.History"},
		"created":      {config: `{"created":"x"}`, epoch: 1, err: `image config: created: parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"`},
		"not an image": {config: `[]`, err: "image config: json: cannot unmarshal array into Go value of type map[string]json.RawMessage"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := finishConfig([]byte(c.config), c.chain, second(c.epoch), nil)
			if !strings.HasPrefix(text(err), c.err) || (err != nil) != (c.err != "") {
				t.Fatalf("%v, want %q", err, c.err)
			}
			if c.err == "" {
				equalJSON(t, got, c.want)
			}
		})
	}
}

func equalJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Error(diff)
	}
}

func TestSetLayers(t *testing.T) {
	t.Parallel()
	got, err := setLayers([]byte(`{"os":"linux","rootfs":{"type":"layers","diff_ids":["x"]}}`), []buildcache.Link{link("a", 0)})
	if err != nil {
		t.Fatal(err)
	}
	equalJSON(t, got, `{"os":"linux","rootfs":{"type":"layers","diff_ids":["`+digest.FromString("a").String()+`"]}}`)
	if _, err := setLayers([]byte("x"), nil); !strings.HasPrefix(text(err), "image config: ") {
		t.Errorf("%v", err)
	}
}

// The config of a front end may be anything.
func TestInvalidConfigs(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{"null": "invalid null image config for export", "[]": "image config: ", "": "image config: "} {
		if _, err := finishConfig([]byte(config), nil, nil, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("finish %q: %v", config, err)
		}
		if _, err := setLayers([]byte(config), nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("set layers of %q: %v", config, err)
		}
	}
}

func TestParseEpoch(t *testing.T) {
	t.Parallel()
	for s, c := range map[string]struct {
		want *time.Time
		err  string
	}{
		"": {}, "1": {want: second(1)}, "-1": {want: second(-1)},
		"x":   {err: `invalid SOURCE_DATE_EPOCH: "x" is not a number of seconds`},
		"1.5": {err: `invalid SOURCE_DATE_EPOCH: "1.5" is not a number of seconds`},
	} {
		got, err := parseEpoch(s)
		if text(err) != c.err {
			t.Errorf("%s: %v, want %q", s, err, c.err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", s, diff)
		}
	}
}
