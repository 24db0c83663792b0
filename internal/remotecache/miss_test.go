package remotecache

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// variant is a build like newSample's with other parts.
type variant struct {
	base, file, run, platform string
	unreadable                error
	unlinked                  bool // the COPY has no base that is known
}

// steps returns the COPY and the RUN of a variant, as far as they were found.
func (x variant) steps(t *testing.T, c *Cache) (copied, made *Step) {
	t.Helper()
	base := c.Source(digest.FromString(x.base).String())
	directory := Input{Key: c.Source().Key(0), Local: true, View: func(context.Context) (view.View, error) {
		return tree(t, "dir/", "dir/file "+x.file), x.unreadable
	}}
	step := func(op *pb.Op, inputs ...Input) *Step {
		op.Platform = &pb.Platform{OS: "linux", Architecture: x.platform}
		op.Inputs = make([]*pb.Input, len(inputs))
		s, err := c.Step(op, nil, inputs)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Find(t.Context(), ByContent, 0)
		return s
	}
	copied = step(&pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{{
		SecondaryInput: 1, Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{Src: "/dir", Dest: "/"}},
	}}}}}, Input{Key: base.Key(0)}, directory)
	run := &pb.ExecOp{Meta: &pb.Meta{Args: []string{x.run}}, Mounts: []*pb.Mount{{Dest: "/"}}}
	on := copied.Key(0)
	if x.unlinked {
		on = base.Key(0)
	}
	return copied, step(&pb.Op{Op: &pb.Op_Exec{Exec: run}}, Input{Key: on})
}

// TestMisses: each difference from a cached build is the reason of the step that it is in, and of those above it.
func TestMisses(t *testing.T) {
	imports, _ := exported(t, ExportOptions{Mode: ModeMax})
	known := variant{base: "base", file: "content", run: "make", platform: "amd64"}
	type want struct {
		reason Reason
		inputs []MissedInput
	}
	found := want{reason: -1}
	for name, tt := range map[string]struct {
		edit         func(*variant)
		copied, made want
	}{
		"nothing":  {func(*variant) {}, found, found},
		"a file":   {func(v *variant) { v.file = "other" }, want{OtherInputs, []MissedInput{{Index: 1}}}, want{OtherInputs, []MissedInput{{Index: 0}}}},
		"the base": {func(v *variant) { v.base = "other" }, want{OtherInputs, []MissedInput{{Index: 0}}}, want{OtherInputs, []MissedInput{{Index: 0}}}},
		"a file and the base": {
			func(v *variant) { v.base, v.file = "other", "other" },
			want{OtherInputs, []MissedInput{{Index: 0}, {Index: 1}}}, want{OtherInputs, []MissedInput{{Index: 0}}},
		},
		"the command":   {func(v *variant) { v.run = "other" }, found, want{reason: NoStep}},
		"the platform":  {func(v *variant) { v.platform = "arm64" }, found, want{reason: OtherPlatform}},
		"a step less":   {func(v *variant) { v.unlinked = true }, found, want{OtherInputs, []MissedInput{{Index: 0, Known: true}}}},
		"no permission": {func(v *variant) { v.unreadable = errors.New("permission denied") }, want{reason: Unsearched}, want{reason: Unsearched}},
	} {
		t.Run(name, func(t *testing.T) {
			v := known
			tt.edit(&v)
			copied, made := v.steps(t, New(imports, nil))
			for step, want := range map[*Step]want{copied: tt.copied, made: tt.made} {
				list := step.Misses(t.Context(), 0)
				switch {
				case want.reason < 0 && len(list) == 0:
				case len(list) != 1 || list[0].Cache != imports[0] || list[0].Reason != want.reason || !slices.Equal(list[0].Inputs, want.inputs):
					t.Errorf("%+v, want %+v", list, want)
				case want.reason == OtherPlatform && list[0].Platform != "linux/amd64":
					t.Errorf("the cache has it for %q", list[0].Platform)
				case want.reason == Unsearched && !errors.Is(list[0].Err, v.unreadable):
					t.Errorf("error %v", list[0].Err)
				}
			}
		})
	}
}

// TestMissesOfResults: a cache of the image's own layers has other steps without results, and one whose layers are gone has none.
func TestMissesOfResults(t *testing.T) {
	imports, _ := exported(t, ExportOptions{Mode: ModeMin})
	known := variant{base: "base", file: "content", run: "make", platform: "amd64"}
	if _, made := known.steps(t, New(imports, nil)); reasonOf(t, made) != NoResult {
		t.Errorf("reason %d", reasonOf(t, made))
	}
	imports, _ = exported(t, ExportOptions{Mode: ModeMax})
	for i := range imports[0].records {
		imports[0].records[i].results, imports[0].records[i].lost = nil, true
	}
	if _, made := known.steps(t, New(imports, nil)); reasonOf(t, made) != NoLayers {
		t.Errorf("reason %d", reasonOf(t, made))
	}
}

// TestLostLayer: a result with a layer that was lost is not found, until somebody has the layer again.
func TestLostLayer(t *testing.T) {
	imports, _ := exported(t, ExportOptions{Mode: ModeMax})
	c := New(imports, nil)
	known := variant{base: "base", file: "content", run: "make", platform: "amd64"}
	find := func() []*Hit {
		t.Helper()
		_, made := known.steps(t, c)
		hits, err := made.Find(t.Context(), ByContent, 0)
		if err != nil {
			t.Fatal(err)
		}
		return hits
	}
	hits := find()
	if len(hits) != 1 {
		t.Fatalf("%d hits", len(hits))
	}
	missing := true
	for _, l := range hits[0].Layers {
		c.Lose(l.DiffID, func() bool { return missing })
	}
	if got := find(); got != nil {
		t.Errorf("%+v", got)
	}
	if _, made := known.steps(t, c); reasonOf(t, made) != Lost {
		t.Errorf("reason %d", reasonOf(t, made))
	}
	missing = false
	if got := find(); len(got) != 1 {
		t.Errorf("%d hits when the layers are there again", len(got))
	}
}

func reasonOf(t *testing.T, s *Step) Reason {
	t.Helper()
	list := s.Misses(t.Context(), 0)
	if len(list) != 1 {
		t.Fatalf("%d misses", len(list))
	}
	return list[0].Reason
}
