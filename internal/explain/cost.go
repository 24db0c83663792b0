package explain

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
)

// Cost is what a step of a build has cost in the builds of its line that are remembered: this one, and those before it.
type Cost struct {
	Step *history.Step
	Had  int           // how many of the builds had the step
	Ran  int           // in how many of them it ran
	Time time.Duration // of all runs
	Size int64         // that all runs wrote, in bytes
	// Layer is what the step adds in the build, "" if it adds none or no run of it is remembered.
	Layer digest.Digest
	// Reruns are the runs that had no other cause than changed files of a COPY or ADD before the step, by that.
	Reruns []*Rerun
}

// Rerun is how often a step ran for the changed files of another step alone.
type Rerun struct {
	Copy  *history.Step // in the build
	Times int
	Time  time.Duration
	// Reads are the files that the command is known to read in place of all that was copied; nil if that is not known.
	Reads []string
	// ForThem are the runs among Times in which one of Reads changed, and Named those that changed.
	ForThem int
	Named   []string
	// Saved is the time of the other runs.
	Saved time.Duration
}

// maxCosts is how many builds are read.
const maxCosts = 100

// Costs returns the costs of the steps of a build that are instructions, in its order.
func Costs(builds *history.Builds, b *history.Build) []*Cost {
	list := []*Cost{}
	of := map[digest.Digest]*Cost{}
	for _, s := range b.Steps {
		if s.Line == 0 || s.Source != nil || placeOf(s.Name).number == 0 {
			continue
		}
		c := &Cost{Step: s}
		list = append(list, c)
		of[s.Vertex] = c
	}
	self := map[digest.Digest]*history.Step{}
	for _, s := range b.Steps {
		self[s.Vertex] = s
	}
	addBuild(of, b, self)
	n := 1
	for old := range builds.Earlier(b.Line) {
		if n == maxCosts {
			break
		}
		if old.Ref == b.Ref || !old.Started.Before(b.Started) {
			continue
		}
		n++
		now := map[digest.Digest]*history.Step{}
		for vertex, p := range match(b, old) {
			now[p.Vertex] = b.Step(vertex)
		}
		addBuild(of, old, now)
	}
	return list
}

// addBuild adds what a build's steps have cost to the costs of their counterparts now.
func addBuild(costs map[digest.Digest]*Cost, b *history.Build, now map[digest.Digest]*history.Step) {
	for _, s := range b.Steps {
		like := now[s.Vertex]
		if like == nil || costs[like.Vertex] == nil || s.State != history.StepRan && s.State != history.StepCached {
			continue
		}
		c := costs[like.Vertex]
		c.Had++
		if c.Layer == "" && s.Output == c.Step.Output {
			c.Layer = s.Layer
		}
		if s.State != history.StepRan {
			continue
		}
		c.Ran++
		c.Time += s.Duration()
		c.Size += s.Size
		if placeOf(s.Name).verb() != "RUN" {
			continue
		}
		if from, files := changedFiles(b, s); from != nil && now[from.Vertex] != nil {
			c.rerun(now[from.Vertex], s.Duration(), files)
		}
	}
}

// rerun adds a run for changed files of a copy.
func (c *Cost) rerun(from *history.Step, took time.Duration, files []string) {
	i := slices.IndexFunc(c.Reruns, func(r *Rerun) bool { return r.Copy == from })
	if i < 0 {
		i = len(c.Reruns)
		c.Reruns = append(c.Reruns, &Rerun{Copy: from, Reads: reads(placeOf(c.Step.Name).text)})
	}
	r := c.Reruns[i]
	r.Times++
	r.Time += took
	needed := false
	for _, f := range files {
		if !matchesAny(r.Reads, f) {
			continue
		}
		needed = true
		if !slices.Contains(r.Named, f) {
			r.Named = append(r.Named, f)
		}
	}
	if needed {
		r.ForThem++
	} else {
		r.Saved += took
	}
}

func matchesAny(patterns []string, file string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, path.Base(file))
		return ok && err == nil
	})
}

// changedFiles returns the COPY or ADD of files of the host whose changed files are the only cause why a step ran, and the files; nil
// if there is another cause, or if the causes do not say all.
func changedFiles(b *history.Build, s *history.Step) (from *history.Step, files []string) {
	seen := map[digest.Digest]bool{s.Vertex: true}
	open := []*history.Step{s}
	for len(open) > 0 {
		at := open[0]
		open = open[1:]
		if len(at.Causes) == 0 {
			return nil, nil
		}
		for _, c := range at.Causes {
			switch {
			case c.Kind == history.Result && b.Step(c.Step) != nil:
				if next := b.Step(c.Step); !seen[next.Vertex] {
					seen[next.Vertex] = true
					open = append(open, next)
				}
			case c.Kind == history.File && c.Step == "" && at != s && (from == nil || from == at) && copies(at):
				from = at
				if !slices.Contains(files, c.Name) {
					files = append(files, c.Name)
				}
			default:
				return nil, nil
			}
		}
	}
	return from, files
}

func copies(s *history.Step) bool {
	verb := placeOf(strings.Replace(s.Name, "] LINK ", "] ", 1)).verb()
	return verb == "COPY" || verb == "ADD"
}

// Worth are the least runs and the least time without a change of what a command reads that a hint is made for.
const (
	worthRuns = 3
	worthTime = 30 * time.Second
)

// Worthwhile reports whether the runs are a reason to copy what the command reads before all else: it is known what that is, and it was
// not changed in several runs that took a while.
func (r *Rerun) Worthwhile() bool {
	return len(r.Reads) > 0 && r.Times-r.ForThem >= worthRuns && r.Saved >= worthTime
}

// Because says how often the step ran for changed files of a copy before it, and in how many of these runs a file changed that its
// command is known to read: what the records prove, and no more.
func (c *Cost) Because(r *Rerun) string {
	text := fmt.Sprintf("%s ran %s because of %s, %s", instruction(c.Step), times(r.Times), instruction(r.Copy), history.Seconds(r.Time))
	switch {
	case len(r.Reads) == 0:
		return text
	case r.ForThem == 0:
		return text + "; none of " + strings.Join(r.Reads, ", ") + " changed"
	}
	return text + fmt.Sprintf("; %s changed in %d of them", strings.Join(r.Named, " or "), r.ForThem)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// maxInstruction is how much of an instruction is shown, in runes.
const maxInstruction = 60

// instruction is a step without its number, and with its line.
func instruction(s *history.Step) string {
	text := []rune(strings.TrimPrefix(placeOf(s.Name).text, "LINK "))
	if len(text) > maxInstruction {
		text = append(text[:maxInstruction-1], '…')
	}
	if s.Line == 0 {
		return string(text)
	}
	return fmt.Sprintf("%s (line %d)", string(text), s.Line)
}

// slow is how long a step takes at least that a hint is made for.
const slow = 2 * time.Second

// Hint says of the step of a build that cost the most for files which it does not read how often that was; "" if no step is worth it.
func Hint(builds *history.Builds, b *history.Build) string {
	hinted := func(s *history.Step) bool {
		if s.State != history.StepRan || s.Duration() < slow || placeOf(s.Name).verb() != "RUN" || reads(placeOf(s.Name).text) == nil {
			return false
		}
		from, _ := changedFiles(b, s)
		return from != nil
	}
	if !slices.ContainsFunc(b.Steps, hinted) {
		return ""
	}
	var most *Rerun
	text := ""
	for _, c := range Costs(builds, b) {
		for _, r := range c.Reruns {
			if hinted(c.Step) && r.Worthwhile() && (most == nil || r.Saved > most.Saved) {
				most, text = r, c.Because(r)
			}
		}
	}
	return text
}
