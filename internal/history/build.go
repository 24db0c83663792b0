// Package history remembers the builds of a store: what each step read, how it ended, and why it ran.
package history

import (
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// Status is how a build ended, in the words of buildx.
type Status string

// The states of a build. A build whose process has died without a record of its end is Interrupted.
const (
	Running     Status = "Running"
	Completed   Status = "Completed"
	Failed      Status = "Error"
	Canceled    Status = "Canceled"
	Interrupted Status = "Interrupted"
)

// Build is one build.
type Build struct {
	file    file // where the record was read
	index   map[digest.Digest]*Step
	indexed int    // steps in index
	Ref     string `json:"ref"`
	// Line identifies what was built: builds of one context, Dockerfile and target have the same.
	Line       string            `json:"line"`
	Context    string            `json:"context"`
	Dockerfile string            `json:"dockerfile,omitempty"`
	Target     string            `json:"target,omitempty"`
	Platforms  []string          `json:"platforms,omitempty"`
	Names      []string          `json:"names,omitempty"`    // of the image
	Args       map[string]string `json:"args,omitempty"`     // build arguments that were given, without credentials
	Contexts   map[string]string `json:"contexts,omitempty"` // named contexts, without credentials
	Text       string            `json:"text,omitempty"`     // of the Dockerfile; "" for one that is larger than MaxText
	Started    time.Time         `json:"started"`
	Completed  time.Time         `json:"completed,omitzero"`
	Status     Status            `json:"status"`
	Error      string            `json:"error,omitempty"`
	// Failure is the error with what BuildKit's clients show of it: a google.rpc.Status; nil if no client of BuildKit's has built.
	Failure []byte        `json:"failure,omitempty"`
	Image   digest.Digest `json:"image,omitempty"` // the manifest or index that was made
	// Request is what a client of BuildKit's API has asked for, without credentials; nil for another build, that of a Dockerfile.
	Request *Request `json:"request,omitempty"`
	// Exporters are those that a client of BuildKit's API has asked for, without credentials. Results are the images that they made.
	Exporters []Exporter `json:"exporters,omitempty"`
	Results   []Exported `json:"results,omitempty"`
	// Source is the LLB by which the Dockerfile of Text was read; nil if it is not known, or has credentials.
	Source []byte  `json:"source,omitempty"`
	Steps  []*Step `json:"steps,omitempty"` // inputs before the steps that use them
	// Caches are the remote caches that the build could not read.
	Caches []UnreadCache `json:"unreadCaches,omitempty"`
}

// Request is the front end that a client of BuildKit's API has asked for, and its options.
type Request struct {
	Frontend string            `json:"frontend,omitempty"` // "" for LLB, and for a client that is the front end itself
	Attrs    map[string]string `json:"attrs,omitempty"`
}

// Exporter is an output of a build as its client has asked for it.
type Exporter struct {
	Type  string            `json:"type"`
	Attrs map[string]string `json:"attrs,omitempty"`
}

// Exported is the manifest or index that an exporter has made.
type Exported struct {
	Exporter  int           `json:"exporter"` // its number, from 0
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
}

// UnreadCache is a remote cache that a build was to use, and could not.
type UnreadCache struct {
	Name  string `json:"name"`
	Error string `json:"error"`
}

// MaxText bounds the text of a Dockerfile that is kept.
const MaxText = 64 << 10

// Duration is the time from start to end, or until now; 0 if the end is not known.
func (b *Build) Duration() time.Duration {
	end := b.Completed
	switch {
	case end.IsZero() && b.Status == Interrupted:
		return 0 // nobody recorded when
	case end.IsZero():
		end = time.Now()
	}
	return end.Sub(b.Started)
}

// Seconds is a duration as docker's progress shows it.
func Seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%dm %ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh %dm", int(d.Hours()), int(d.Minutes())%60)
}

// Step returns the step of an operation, nil if the build has none. It is not safe for concurrent use.
func (b *Build) Step(vertex digest.Digest) *Step {
	for ; b.indexed < len(b.Steps); b.indexed++ {
		if b.index == nil {
			b.index = map[digest.Digest]*Step{}
		}
		s := b.Steps[b.indexed]
		b.index[s.Vertex] = s
	}
	return b.index[vertex]
}

// Validate finds what no build writes: mica reads records that others wrote, or damaged.
func (b *Build) Validate() error {
	known := map[digest.Digest]bool{}
	for _, s := range b.Steps {
		if s == nil {
			return errors.New("a step is missing")
		}
		if s.Key != "" && s.Key.Validate() != nil {
			return fmt.Errorf("step %q has an invalid key", s.Name)
		}
		for _, in := range s.Inputs {
			if !known[in] {
				return fmt.Errorf("step %q has an input that does not come before it", s.Name)
			}
		}
		known[s.Vertex] = true
	}
	return nil
}

// StepName returns the name of an operation's step.
func (b *Build) StepName(vertex digest.Digest) string {
	if s := b.Step(vertex); s != nil {
		return s.Name
	}
	return vertex.String()
}

// Because says in one line why a step of the build ran; "" if that is not known.
func (b *Build) Because(s *Step) string {
	if len(s.Causes) == 0 {
		return ""
	}
	return "because " + Summary(s.Causes, b.StepName)
}

// NotInCaches says, a line each, why remote caches did not have the result of a step of the build.
func (b *Build) NotInCaches(s *Step) (lines []string) {
	for _, m := range s.Misses {
		lines = append(lines, "not in cache "+printable(m.Cache)+": "+Summary(m.Causes, b.StepName))
	}
	return lines
}

// Notes are the lines below a step that say why it ran.
func (b *Build) Notes(s *Step) (lines []string) {
	if text := b.Because(s); text != "" {
		lines = append(lines, text)
	}
	return append(lines, b.NotInCaches(s)...)
}

// State is how a step ended.
type State string

// The states of a step. A step without one was not reached.
const (
	StepRan      State = "ran"
	StepCached   State = "cached"
	StepFailed   State = "failed"
	StepCanceled State = "canceled"
	// In a build that is only planned: a step that runs, and one that runs if a step before it gives another result.
	StepPlanned State = "would run"
	StepBlocked State = "may run"
)

// Step is one operation of a build.
type Step struct {
	Vertex    digest.Digest   `json:"vertex"` // the digest of its definition
	Name      string          `json:"name"`   // as the progress display shows it
	Inputs    []digest.Digest `json:"inputs,omitempty"`
	Line      int             `json:"line,omitempty"` // in the Dockerfile, from 1; 0 if unknown
	Key       digest.Digest   `json:"key,omitempty"`  // of its cache record; "" for a source and for what is never cached
	State     State           `json:"state,omitempty"`
	Started   time.Time       `json:"started,omitzero"`
	Completed time.Time       `json:"completed,omitzero"`
	Error     string          `json:"error,omitempty"`
	Causes    []Cause         `json:"causes,omitempty"`
	Output    digest.Digest   `json:"output,omitempty"` // the ChainID of its first result
	Layer     digest.Digest   `json:"layer,omitempty"`  // that it added when it ran
	Size      int64           `json:"size,omitempty"`   // of that layer, in bytes: the sizes of its files
	Source    *Source         `json:"source,omitempty"`
	// Misses say why remote caches did not have the result of a step that ran.
	Misses []CacheMiss `json:"cacheMisses,omitempty"`
}

// CacheMiss says why a remote cache did not have the result of a step.
type CacheMiss struct {
	Cache  string  `json:"cache"`
	Causes []Cause `json:"causes"`
}

// Duration is how long the step took; 0 for one that did not run.
func (s *Step) Duration() time.Duration {
	if s.Started.IsZero() || s.Completed.IsZero() {
		return 0
	}
	return s.Completed.Sub(s.Started)
}

// Source is what a source operation brought into the build.
type Source struct {
	Identifier string          `json:"identifier"`       // with its scheme, as in LLB
	URL        string          `json:"url,omitempty"`    // of a git repository, with its ref, as it was given
	Layers     []digest.Digest `json:"layers,omitempty"` // of an image: its DiffIDs
	Env        []string        `json:"env,omitempty"`    // of an image: the environment in its config, the user and so on
	User       string          `json:"user,omitempty"`
	Dir        string          `json:"dir,omitempty"`
	Shell      []string        `json:"shell,omitempty"`
	OnBuild    []string        `json:"onBuild,omitempty"`
	Excludes   []string        `json:"excludes,omitempty"` // of a directory: the patterns of its ignore file
}

// Ingredient is one part of the key of a step.
type Ingredient struct {
	Kind  string `json:"kind"`  // operation, platform, layers, mount, source
	Name  string `json:"name"`  // identifies one of its kind
	Value string `json:"value"` // its content, or the digest of that
	Input int    `json:"input"` // the index of the step's input that it comes from, -1 for none
}
