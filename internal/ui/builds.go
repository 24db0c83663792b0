package ui

import (
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/explain"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/terminal"
)

// buildRow is a build in the list.
type buildRow struct {
	Ref       string         `json:"ref"`
	Name      string         `json:"name"`
	Names     []string       `json:"names,omitempty"` // of the image
	Status    history.Status `json:"status"`
	Started   time.Time      `json:"started"`
	Completed time.Time      `json:"completed,omitzero"`
	Steps     int            `json:"steps"`
	Done      int            `json:"done"`
	Cached    int            `json:"cached"`
	Line      string         `json:"line"`
	Error     string         `json:"error,omitempty"`
}

// buildName is what a build is called: the last part of its context, with a Dockerfile and a target that are not the default.
func buildName(b *history.Build) string {
	name := path.Base(strings.TrimSuffix(b.Context, "/"))
	if b.Context == "" || b.Context == "-" {
		name = "-"
	}
	if b.Dockerfile != "" && path.Base(b.Dockerfile) != "Dockerfile" {
		name += "/" + path.Base(b.Dockerfile)
	}
	if b.Target != "" {
		name += " (" + b.Target + ")"
	}
	return name
}

func newBuildRow(b *history.Build) buildRow {
	row := buildRow{
		Ref: b.Ref, Name: terminal.EscapeString(buildName(b)), Names: b.Names, Status: b.Status, Started: b.Started, Completed: b.Completed,
		Steps: len(b.Steps), Line: b.Line, Error: shown(b.Error),
	}
	for _, s := range b.Steps {
		if s.State != "" {
			row.Done++
		}
		if s.State == history.StepCached {
			row.Cached++
		}
	}
	return row
}

func (s *Server) listBuilds(*http.Request) (any, error) {
	list, err := s.builds.List()
	if err != nil {
		return nil, err
	}
	rows := []buildRow{}
	for _, b := range list {
		rows = append(rows, newBuildRow(b))
	}
	return map[string]any{"builds": rows, "now": time.Now()}, nil
}

// buildPage is a build with its steps.
type buildPage struct {
	buildRow
	Context    string            `json:"context"`
	Dockerfile string            `json:"dockerfile,omitempty"`
	Target     string            `json:"target,omitempty"`
	Platforms  []string          `json:"platforms,omitempty"`
	Args       map[string]string `json:"args,omitempty"`
	Text       string            `json:"text,omitempty"` // of the Dockerfile
	Image      digest.Digest     `json:"image,omitempty"`
	StepList   []stepRow         `json:"stepList"`
	Older      string            `json:"older,omitempty"` // the build before, of the same line
}

// stepRow is a step of a build.
type stepRow struct {
	Name      string        `json:"name"`
	Line      int           `json:"line,omitempty"`
	Inputs    []int         `json:"inputs,omitempty"` // by their places in the list
	State     history.State `json:"state,omitempty"`
	Started   time.Time     `json:"started,omitzero"`
	Completed time.Time     `json:"completed,omitzero"`
	Error     string        `json:"error,omitempty"`
	Size      int64         `json:"size,omitempty"` // of the layer that it made; 0 where that is not known
	Cost      *costRow      `json:"cost,omitempty"`
	Because   string        `json:"because,omitempty"`
	Causes    []causeRow    `json:"causes,omitempty"`
	Roots     string        `json:"roots,omitempty"` // the causes at the beginning of the chain, if those are others
}

// causeRow is a cause in the words of mica why.
type causeRow struct {
	Text   string `json:"text"`
	Detail string `json:"detail,omitempty"`
	Step   *int   `json:"step,omitempty"` // the place of the step that the cause comes from
}

// costRow is what a step has cost in the builds of its line, in the words of mica why --cost.
type costRow struct {
	Ran   int           `json:"ran"`
	Had   int           `json:"had"`  // how many builds had the step
	Time  time.Duration `json:"time"` // of all runs, in nanoseconds
	Size  int64         `json:"size"` // that all runs wrote
	Notes []string      `json:"notes,omitempty"`
}

// worthNoting is how long runs took that a change of the Dockerfile would save.
const worthNoting = time.Second

// addCosts adds what the steps have cost. It reads the builds of the line.
func (s *Server) addCosts(p *buildPage, b *history.Build) {
	of := map[*history.Step]*stepRow{}
	for i, st := range b.Steps {
		of[st] = &p.StepList[i]
	}
	layers, _ := s.newLayers()
	for _, c := range explain.Costs(s.builds, b) {
		row := of[c.Step]
		if row == nil {
			continue
		}
		row.Cost = &costRow{Ran: c.Ran, Had: c.Had, Time: c.Time, Size: c.Size}
		for _, r := range c.Reruns {
			if r.Time >= worthNoting {
				row.Cost.Notes = append(row.Cost.Notes, terminal.EscapeString(c.Because(r)))
			}
		}
		if row.Size == 0 && c.Layer != "" {
			row.Size, _ = layers.Size(c.Layer) // a layer that is gone has no size
		}
	}
}

// maxCauses is how many causes of a step a page has.
const maxCauses = 200

// pageOf describes a build for the page.
func (s *Server) pageOf(b *history.Build) *buildPage {
	p := &buildPage{
		buildRow: newBuildRow(b), Context: shown(b.Context), Dockerfile: shown(b.Dockerfile), Target: shown(b.Target), Platforms: b.Platforms,
		Args: map[string]string{}, Text: shown(b.Text), Image: b.Image, StepList: []stepRow{},
	}
	for k, v := range b.Args {
		p.Args[shown(k)] = shown(v)
	}
	place := map[digest.Digest]int{}
	for i, st := range b.Steps {
		place[st.Vertex] = i
	}
	why := explain.New(s.builds, b)
	for _, st := range b.Steps {
		row := stepRow{
			Name: terminal.EscapeString(st.Name), Line: st.Line, State: st.State, Started: st.Started, Completed: st.Completed, Error: shown(st.Error), Size: st.Size,
			Because: shown(strings.TrimPrefix(b.Because(st), "because ")),
		}
		for _, in := range st.Inputs {
			row.Inputs = append(row.Inputs, place[in])
		}
		for _, c := range st.Causes[:min(len(st.Causes), maxCauses)] {
			row.Causes = append(row.Causes, newCauseRow(b, c, place))
		}
		if len(st.Causes) > 0 {
			if roots := why.Roots(st); len(roots) > 0 && !slices.Equal(roots, st.Causes) {
				row.Roots = shown(history.Summary(roots, b.StepName))
			}
		}
		p.StepList = append(p.StepList, row)
	}
	return p
}

func newCauseRow(b *history.Build, c history.Cause, place map[digest.Digest]int) causeRow {
	row := causeRow{Text: shown(c.Text(b.StepName)), Detail: detail(c)}
	if i, ok := place[c.Step]; ok {
		row.Step = &i
	}
	return row
}

// detail has the digests and sizes of a file.
func detail(c history.Cause) string {
	was, now := short(c.Old)+", "+units.HumanSize(float64(c.OldSize)), short(c.New)+", "+units.HumanSize(float64(c.NewSize))
	switch {
	case c.Kind != history.File || c.Old == "" && c.New == "":
		return ""
	case c.Change == history.Content:
		return was + " → " + now
	case c.Change == history.Added:
		return now
	case c.Change == history.Removed:
		return was
	}
	return ""
}

// short is the beginning of a digest.
func short(s string) string {
	const digits = 12
	if d := digest.Digest(s); d.Validate() == nil {
		return d.Algorithm().String() + ":" + d.Encoded()[:digits]
	}
	return s
}

func (s *Server) findBuild(r *http.Request) (*history.Build, error) {
	ref := r.URL.Query().Get("build")
	if ref == "" {
		return nil, badRequest("name a build")
	}
	return s.builds.Find(ref)
}

func (s *Server) showBuild(r *http.Request) (any, error) {
	b, err := s.findBuild(r)
	if err != nil {
		return nil, err
	}
	p := s.pageOf(b)
	s.addCosts(p, b)
	for old := range s.builds.Earlier(b.Line) {
		if old.Started.Before(b.Started) {
			p.Older = old.Ref
			break
		}
	}
	return p, nil
}

// removeBuild forgets a build.
func (s *Server) removeBuild(r *http.Request) (any, error) {
	var req struct{ Build string }
	if err := body(r, &req); err != nil {
		return nil, err
	}
	if req.Build == "" {
		return nil, badRequest("name a build")
	}
	removed, errs := s.builds.Remove(req.Build)
	return map[string]any{"removed": removed}, errors.Join(errs...)
}
