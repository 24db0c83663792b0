package analyze

import (
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Step is an instruction of the Dockerfile, as the history of the image has it.
type Step struct {
	Number      int           `json:"number"` // from 1, the first instruction of the base image
	Instruction string        `json:"instruction"`
	Created     time.Time     `json:"created,omitzero"`
	Layer       int           `json:"layer"` // number of its layer, from 1; 0 if it has none
	DiffID      digest.Digest `json:"diffID,omitempty"`
	Size        int64         `json:"size"`
	Added       int           `json:"added"`    // files, directories not counted
	Modified    int           `json:"modified"` // files
	Removed     int           `json:"removed"`  // files
	Wasted      int64         `json:"wasted"`   // bytes of the layer that are not in the image
}

// unknownStep is the instruction of a layer that the history does not mention.
const unknownStep = "<unknown>"

// Steps returns the steps of an image, oldest first. Secrets in their instructions are masked. Every layer has a step: an image whose
// history does not fit its layers has one step for each layer.
func Steps(img *Image) []Step {
	history := img.Config.History
	withLayer := 0
	for _, h := range history {
		if !h.EmptyLayer {
			withLayer++
		}
	}
	if withLayer != len(img.Layers) {
		history = nil
	}
	var steps []Step
	layer := 0
	for _, h := range history {
		s := Step{Number: len(steps) + 1, Instruction: MaskText(Instruction(h.CreatedBy))}
		if h.Created != nil {
			s.Created = *h.Created
		}
		if !h.EmptyLayer {
			s.take(img, layer)
			layer++
		}
		steps = append(steps, s)
	}
	for ; layer < len(img.Layers); layer++ {
		s := Step{Number: len(steps) + 1, Instruction: unknownStep}
		s.take(img, layer)
		steps = append(steps, s)
	}
	return steps
}

func (s *Step) take(img *Image, layer int) {
	l := &img.Layers[layer]
	s.Layer, s.DiffID, s.Size = layer+1, l.DiffID, l.Size
}

// Instruction is the instruction of a Dockerfile behind a line of history, on one line. BuildKit writes
// "RUN /bin/sh -c make # buildkit", with "|1 A=b" before the shell for build arguments; the classic builder "/bin/sh -c make" and
// "/bin/sh -c #(nop) CMD …".
func Instruction(createdBy string) string {
	text := strings.Join(strings.Fields(strings.TrimSuffix(createdBy, "# buildkit")), " ")
	const shell = "/bin/sh -c "
	if nop, ok := strings.CutPrefix(text, shell+"#(nop) "); ok {
		return nop
	}
	if command, ok := strings.CutPrefix(text, shell); ok {
		return "RUN " + command
	}
	run, isRun := strings.CutPrefix(text, "RUN ")
	if !isRun {
		return text
	}
	if strings.HasPrefix(run, "|") {
		if _, command, ok := strings.Cut(run, " "+shell); ok {
			return "RUN " + command
		}
		return text
	}
	return "RUN " + strings.TrimPrefix(run, shell)
}
