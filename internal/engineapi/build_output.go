package engineapi

import (
	"fmt"
	"regexp"
	"sync"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/solver"
)

// maxQuiet is how much output a quiet build keeps, in bytes, for the case that it fails.
const maxQuiet = 1 << 20

// buildOutput shows a build as the classic builder does: steps, their output, and whether they were cached.
type buildOutput struct {
	out   *stream
	quiet bool

	mu    sync.Mutex
	kept  []string // of a quiet build
	size  int
	known map[digest.Digest]string // steps that are announced, with their instructions
	shown map[digest.Digest]int    // steps that have begun, with their numbers
	told  map[digest.Digest]bool   // steps whose end was shown
}

// numbered is the name of a step in a stage: "[build 2/3] RUN make".
var numbered = regexp.MustCompile(`(?s)^\[(?:[^\]]* )?\d+/\d+\] (.*)$`)

// events is a solver.Events.
func (b *buildOutput) events(st *solver.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil {
		b.known, b.shown, b.told = map[digest.Digest]string{}, map[digest.Digest]int{}, map[digest.Digest]bool{}
	}
	for _, v := range st.Vertexes {
		if m := numbered.FindStringSubmatch(v.Name); m != nil {
			b.known[v.Digest] = m[1]
		}
	}
	for _, v := range st.Vertexes {
		b.vertex(v)
	}
	for _, l := range st.Logs {
		b.add(string(l.Data))
	}
	for _, w := range st.Warnings {
		b.add("[Warning] " + string(w.Short) + "\n")
	}
}

// vertex shows the begin and the end of a step.
func (b *buildOutput) vertex(v *bkclient.Vertex) {
	instruction, ok := b.known[v.Digest]
	if !ok || v.Started == nil {
		return
	}
	if _, begun := b.shown[v.Digest]; !begun {
		b.shown[v.Digest] = len(b.shown) + 1
		b.add(fmt.Sprintf("Step %d/%d : %s\n", len(b.shown), len(b.known), redact.URLs(instruction)))
	}
	if v.Completed != nil && v.Cached && !b.told[v.Digest] {
		b.told[v.Digest] = true
		b.add(" ---> Using cache\n")
	}
}

// text shows a line of the end of a build.
func (b *buildOutput) text(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(text)
}

// add sends output, or keeps it while the build is quiet.
func (b *buildOutput) add(text string) {
	if !b.quiet {
		b.out.send(jsonstream.Message{Stream: text})
		return
	}
	b.kept, b.size = append(b.kept, text), b.size+len(text)
	for b.size > maxQuiet {
		b.size -= len(b.kept[0])
		b.kept = b.kept[1:]
	}
}

// flush sends what a quiet build has kept.
func (b *buildOutput) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.kept {
		b.out.send(jsonstream.Message{Stream: text})
	}
	b.kept, b.size = nil, 0
}
