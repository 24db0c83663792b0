package explain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
)

// run is a build of COPY . . and RUN npm ci, in which files of the context have changed.
type run struct {
	changed []string
	took    time.Duration
	cached  bool
	other   history.Cause // of the RUN, beside the COPY
}

func (l *lab) npm(command string, runs ...run) *history.Build {
	l.t.Helper()
	var b *history.Build
	for _, r := range runs {
		started := time.Now()
		copied := &history.Step{Vertex: "sha256:copy", Name: "[2/3] COPY . .", Line: 4, State: history.StepRan, Started: started, Completed: started.Add(time.Second), Size: 1000}
		for _, f := range r.changed {
			copied.Causes = append(copied.Causes, history.Cause{Kind: history.File, Name: f, Change: history.Content})
		}
		ran := &history.Step{
			Vertex: "sha256:run", Name: "[3/3] RUN " + command, Line: 5, State: history.StepRan, Started: started, Completed: started.Add(r.took), Size: 5000,
			Inputs: []digest.Digest{copied.Vertex}, Causes: []history.Cause{{Kind: history.Result, Step: copied.Vertex}},
		}
		if r.other.Kind != "" {
			ran.Causes = append(ran.Causes, r.other)
		}
		if r.cached {
			for _, s := range []*history.Step{copied, ran} {
				s.State, s.Started, s.Completed, s.Size, s.Causes = history.StepCached, time.Time{}, time.Time{}, 0, nil
			}
		}
		b = l.build(&history.Build{}, copied, ran)
	}
	return b
}

// TestCosts: what steps cost in all builds, and what of it for files that a command does not read.
func TestCosts(t *testing.T) {
	t.Parallel()
	minute := func(files ...string) run { return run{changed: files, took: time.Minute} }
	arg := minute("b.js")
	arg.other = history.Cause{Kind: history.Argument, Name: "V"}
	for name, tt := range map[string]struct {
		command string
		runs    []run
		want    string // of the RUN: builds, runs, time, and what the records prove
		hint    bool
	}{
		"sources": {
			"npm ci", []run{minute("a.js"), minute("b.js"), minute("web/package.json", "c.js"), {cached: true}, minute("b.js")},
			"4 of 5, 4m 0s, 20000: RUN npm ci (line 5) ran 4 times because of COPY . . (line 4), 4m 0s; web/package.json changed in 1 of them", true,
		},
		"nothing that it reads": {
			"npm ci", []run{minute("a.js"), minute("b.js"), minute("a.js")},
			"3 of 3, 3m 0s, 15000: RUN npm ci (line 5) ran 3 times because of COPY . . (line 4), 3m 0s; none of package.json, package-lock.json, npm-shrinkwrap.json, .npmrc changed", true,
		},
		"what it reads": {
			"npm ci", []run{minute("package.json"), minute("package-lock.json"), minute("package.json")},
			"3 of 3, 3m 0s, 15000: RUN npm ci (line 5) ran 3 times because of COPY . . (line 4), 3m 0s; package.json or package-lock.json changed in 3 of them", false,
		},
		"a command that may read anything": {
			"npm run build", []run{minute("a.js"), minute("b.js"), minute("a.js")},
			"3 of 3, 3m 0s, 15000: RUN npm run build (line 5) ran 3 times because of COPY . . (line 4), 3m 0s", false,
		},
		"an argument, too": {"npm ci", []run{arg, arg, minute("a.js")}, "3 of 3, 3m 0s, 15000: RUN npm ci (line 5) ran once because of COPY . . (line 4), 1m 0s; none of package.json, package-lock.json, npm-shrinkwrap.json, .npmrc changed", false},
		"a moment":         {"npm ci", []run{{changed: []string{"a"}, took: 1}, {changed: []string{"a"}, took: 1}, {changed: []string{"a"}, took: 1}}, "3 of 3, 0.0s, 15000: RUN npm ci (line 5) ran 3 times because of COPY . . (line 4), 0.0s; none of package.json, package-lock.json, npm-shrinkwrap.json, .npmrc changed", false},
		"the first build":  {"npm ci", []run{{took: time.Minute}}, "1 of 1, 1m 0s, 5000", false},
		"cached now":       {"npm ci", []run{minute("a.js"), minute("a.js"), minute("a.js"), {cached: true}}, "3 of 4, 3m 0s, 15000: RUN npm ci (line 5) ran 3 times because of COPY . . (line 4), 3m 0s; none of package.json, package-lock.json, npm-shrinkwrap.json, .npmrc changed", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			b := l.npm(tt.command, tt.runs...)
			list := Costs(l.builds, b)
			if len(list) != 2 {
				t.Fatalf("%d steps have costs", len(list))
			}
			c := list[1]
			text := fmt.Sprintf("%d of %d, %s, %d", c.Ran, c.Had, history.Seconds(c.Time), c.Size)
			for _, r := range c.Reruns {
				text += ": " + c.Because(r)
			}
			if text != tt.want {
				t.Errorf("%s\nwant %s", text, tt.want)
			}
			if hint := Hint(l.builds, b); (hint != "") != tt.hint || tt.hint && !strings.HasSuffix(tt.want, hint) {
				t.Errorf("hint %q", hint)
			}
		})
	}
}

// TestReads: commands whose files are known.
func TestReads(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"RUN npm ci": {"package.json"},
		"RUN --mount=type=cache,target=/root/.npm npm ci -q":                {"package.json"},
		"RUN cd web && npm install --omit=dev":                              {"package.json"},
		"RUN npm ci && npm run build":                                       nil,
		"RUN npm install left-pad":                                          nil,
		"RUN pip install -r requirements.txt":                               {"requirements.txt"},
		"RUN pip3 install --no-cache-dir -r dev/dev.txt -c constraints.txt": {"dev.txt", "constraints.txt"},
		"RUN python3 -m pip install -rrequirements.txt":                     {"requirements.txt"},
		"RUN pip install --requirement=r.txt":                               {"r.txt"},
		"RUN pip install .":                                                 nil,
		"RUN pip install flask":                                             nil,
		"RUN pip install -r":                                                nil,
		"RUN go mod download -x":                                            {"go.mod", "go.sum"},
		"RUN go build ./...":                                                nil,
		"RUN go mod download; yarn":                                         {"go.mod", "yarn.lock"},
		"RUN poetry install":                                                nil, // installs the project itself
		"RUN poetry install --no-root":                                      {"poetry.lock"},
		"RUN mvn -B dependency:go-offline":                                  {"pom.xml"},
		"RUN set -e; bundle install":                                        {"Gemfile"},
		"RUN":                                                               nil,
		"RUN --mount":                                                       nil,
	} {
		got := reads(text)
		if (got == nil) != (want == nil) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("%s: %q lacks %s", text, got, w)
			}
		}
	}
}
