package history

import (
	"fmt"
	"strings"
	"testing"
)

func TestSelect(t *testing.T) {
	t.Parallel()
	b := &Build{Ref: "r", Steps: []*Step{
		{Name: "[internal] load build context"}, {Name: "[1/3] FROM base", Line: 2}, {Name: "[2/3] COPY --link a /", Line: 4},
		{Name: "[2/3] LINK COPY --link a /", Line: 4}, {Name: "[3/3] RUN make", Line: 5},
	}}
	none := &Build{Ref: "none"}
	platforms := &Build{Ref: "p", Platforms: []string{"linux/arm64", "linux/amd64"}, Steps: []*Step{
		{Name: "[linux/arm64 2/2] RUN make", Line: 2}, {Name: "[linux/amd64 2/2] RUN make", Line: 2},
	}}
	long := &Build{Ref: "long"}
	for i := range 100 {
		long.Steps = append(long.Steps, &Step{Name: "RUN x", Line: i + 1})
	}
	for _, c := range []struct {
		build *Build
		name  string
		all   string // names
		one   string // or the error of SelectOne
	}{
		{b, "2", "[1/3] FROM base", "[1/3] FROM base"},
		{b, "4", "[2/3] COPY --link a /, [2/3] LINK COPY --link a /", "[2/3] LINK COPY --link a /"},
		{b, "run MAKE", "[3/3] RUN make", "[3/3] RUN make"},
		{b, "copy", "[2/3] COPY --link a /, [2/3] LINK COPY --link a /", "[2/3] LINK COPY --link a /"},
		{b, "build context", "[internal] load build context", `build r has no instruction "build context" (mica builds inspect r lists its steps)`},
		{b, "/3]", "[1/3] FROM base, [2/3] COPY --link a /, [2/3] LINK COPY --link a /, [3/3] RUN make",
			`4 steps of build r have "/3]" in their names: use the line of one: 2 ([1/3] FROM base), 4 ([2/3] COPY --link a /), 4 ([2/3] LINK COPY --link a /), 5 ([3/3] RUN make)`},
		{b, "3", "build r has no step at line 3: its steps are at lines 2, 4, 5", "build r has no step at line 3: its steps are at lines 2, 4, 5"},
		{b, "x y", `build r has no step "x y" (mica builds inspect r lists them)`, `build r has no step "x y" (mica builds inspect r lists them)`},
		{none, "1", "build none has no step at line 1: its steps are at no line", "build none has no step at line 1: its steps are at no line"},
		{none, "", "", `build none has no instruction "" (mica builds inspect none lists its steps)`},
		{platforms, "2", "[linux/arm64 2/2] RUN make, [linux/amd64 2/2] RUN make", "[linux/arm64 2/2] RUN make"},
		{platforms, "amd64", "[linux/amd64 2/2] RUN make", "[linux/amd64 2/2] RUN make"},
	} {
		list, err := c.build.Select(c.name)
		var names []string
		for _, s := range list {
			names = append(names, s.Name)
		}
		got := strings.Join(names, ", ")
		if err != nil {
			got = err.Error()
		}
		if got != c.all {
			t.Errorf("%s: %s, want %s", c.name, got, c.all)
		}
		one, err := c.build.SelectOne(c.name)
		if got = fmt.Sprint(err); err == nil {
			got = one.Name
		}
		if got != c.one {
			t.Errorf("%s: one is %s, want %s", c.name, got, c.one)
		}
	}
	if _, err := long.Select("1000"); err == nil || len(err.Error()) > 300 {
		t.Errorf("%v", err)
	}
	if _, err := long.SelectOne("RUN"); err == nil || len(err.Error()) > 300 {
		t.Errorf("%v", err)
	}
	if p := b.Steps[1].PlatformOf(b); p != "" {
		t.Errorf("platform %s", p)
	}
}
