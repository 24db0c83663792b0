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

	mu           sync.Mutex
	kept         []string // of a quiet build
	size         int
	instructions map[digest.Digest]string // of the steps that are announced
	begun        map[digest.Digest]bool   // the steps that were shown
	cached       map[digest.Digest]bool   // those of which it was shown that they are
}

// numbered is the name of a step in a stage: "[build 2/3] RUN make".
var numbered = regexp.MustCompile(`(?s)^\[(?:[^\]]* )?\d+/\d+\] (.*)$`)

// events is a solver.Events.
func (b *buildOutput) events(st *solver.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.instructions == nil {
		b.instructions, b.begun, b.cached = map[digest.Digest]string{}, map[digest.Digest]bool{}, map[digest.Digest]bool{}
	}
	for _, v := range st.Vertexes {
		if m := numbered.FindStringSubmatch(v.Name); m != nil {
			b.instructions[v.Digest] = m[1]
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

// vertex shows that a step has begun, and that it was cached.
func (b *buildOutput) vertex(v *bkclient.Vertex) {
	instruction, ok := b.instructions[v.Digest]
	if !ok || v.Started == nil {
		return
	}
	if !b.begun[v.Digest] {
		b.begun[v.Digest] = true
		b.add(fmt.Sprintf("Step %d/%d : %s\n", len(b.begun), len(b.instructions), redact.URLs(instruction)))
	}
	if v.Completed != nil && v.Cached && !b.cached[v.Digest] {
		b.cached[v.Digest] = true
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
