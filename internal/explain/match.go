package explain

import (
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
)

// place is where a step is in its Dockerfile, from its name: "[build 2/5] RUN make".
type place struct {
	stage  string // with the platform, if the build has several: "linux/arm64 build"
	number int    // in the stage, from 1; 0 for a step that is not an instruction
	text   string
}

// placeOf parses the name of a step. The digest of a base image is not part of its text.
func placeOf(name string) place {
	inside, text, ok := strings.Cut(strings.TrimPrefix(name, "["), "] ")
	if !ok || !strings.HasPrefix(name, "[") {
		return place{text: name}
	}
	p := place{stage: inside, text: text}
	if i := strings.LastIndexByte(inside, ' '); strings.Contains(inside[i+1:], "/") {
		number, _, _ := strings.Cut(inside[i+1:], "/")
		if n, err := strconv.Atoi(number); err == nil {
			p.stage, p.number = strings.TrimSpace(inside[:max(i, 0)]), n
		}
	}
	if p.verb() == "FROM" {
		p.text, _, _ = strings.Cut(p.text, "@sha256:")
	}
	return p
}

// verb is the name of the instruction.
func (p place) verb() string {
	verb, _, _ := strings.Cut(p.text, " ")
	return verb
}

// placed is a step and its place.
type placed struct {
	*history.Step
	place
}

// stagesOf sorts the steps of a build, without some, by stages, in the order in which those appear, and each stage by its instructions.
func stagesOf(b *history.Build, without func(*history.Step) bool) (names []string, stages map[string][]placed) {
	stages = map[string][]placed{}
	for _, s := range b.Steps {
		if without(s) {
			continue
		}
		p := placed{s, placeOf(s.Name)}
		if _, ok := stages[p.stage]; !ok {
			names = append(names, p.stage)
		}
		stages[p.stage] = append(stages[p.stage], p)
	}
	for _, list := range stages {
		slices.SortStableFunc(list, func(a, b placed) int { return a.number - b.number })
	}
	return names, stages
}

// match pairs the steps of a build with those of an earlier one that they stand for: the same instruction, or another in its place.
func match(now, old *history.Build) map[digest.Digest]placed {
	pairs := map[digest.Digest]placed{}
	// What has the same definition is the same step, whatever its name: steps that platforms share are named after one of them.
	for _, s := range now.Steps {
		if same := old.Step(s.Vertex); same != nil {
			pairs[s.Vertex] = placed{same, placeOf(same.Name)}
		}
	}
	names, stages := stagesOf(now, func(s *history.Step) bool { return pairs[s.Vertex].Step != nil })
	oldNames, oldStages := stagesOf(old, func(s *history.Step) bool { return now.Step(s.Vertex) != nil })
	var open []string
	for _, name := range names {
		if list, ok := oldStages[name]; ok && !numbered(name) {
			pair(stages[name], list, pairs)
			delete(oldStages, name)
		} else {
			open = append(open, name)
		}
	}
	for _, m := range likest(open, stages, oldNames, oldStages) {
		pair(stages[m[0]], oldStages[m[1]], pairs)
	}
	return pairs
}

// likest pairs stages by what they have in common, those with the most first. The name counts where that is the same.
func likest(names []string, stages map[string][]placed, oldNames []string, oldStages map[string][]placed) (list [][2]string) {
	type likeness struct {
		now, old string
		score    int
	}
	var all []likeness
	for _, name := range names {
		for _, oldName := range oldNames {
			score := 2 * common(stages[name], oldStages[oldName])
			if name == oldName && len(oldStages[oldName]) > 0 {
				score++
			}
			if score > 0 {
				all = append(all, likeness{name, oldName, score})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b likeness) int { return b.score - a.score })
	taken, takenOld := map[string]bool{}, map[string]bool{}
	for _, l := range all {
		if !taken[l.now] && !takenOld[l.old] {
			list = append(list, [2]string{l.now, l.old})
			taken[l.now], takenOld[l.old] = true, true
		}
	}
	return list
}

// numbered reports whether a stage has no name of its own: it is called stage-N then, and another N if a stage is inserted.
func numbered(name string) bool {
	return strings.HasPrefix(name[strings.LastIndexByte(name, ' ')+1:], "stage-")
}

// common counts the steps of one stage that another has too.
func common(a, b []placed) (n int) {
	have := map[string]bool{}
	for _, s := range b {
		have[s.text] = true
	}
	for _, s := range a {
		if have[s.text] {
			n++
		}
	}
	return n
}

// pair pairs the steps of one stage: first those with the same text, in order; of what remains between them, those with the same
// instruction.
func pair(now, old []placed, pairs map[digest.Digest]placed) {
	for len(now) > 0 && len(old) > 0 && now[0].text == old[0].text {
		pairs[now[0].Vertex] = old[0]
		now, old = now[1:], old[1:]
	}
	for len(now) > 0 && len(old) > 0 && now[len(now)-1].text == old[len(old)-1].text {
		pairs[now[len(now)-1].Vertex] = old[len(old)-1]
		now, old = now[:len(now)-1], old[:len(old)-1]
	}
	if len(now) == 0 || len(old) == 0 {
		return
	}
	var gapNow, gapOld []placed
	i, j := 0, 0
	for _, m := range longestCommon(now, old) {
		pairGap(append(gapNow, now[i:m[0]]...), append(gapOld, old[j:m[1]]...), pairs)
		pairs[now[m[0]].Vertex] = old[m[1]]
		i, j = m[0]+1, m[1]+1
	}
	pairGap(now[i:], old[j:], pairs)
}

func pairGap(now, old []placed, pairs map[digest.Digest]placed) {
	for _, s := range now {
		i := slices.IndexFunc(old, func(o placed) bool { return o.verb() == s.verb() })
		if i < 0 {
			continue
		}
		pairs[s.Vertex] = old[i]
		old = old[i+1:]
	}
}

// maxTable bounds the table of longestCommon.
const maxTable = 16 << 20

// longestCommon returns the indexes of the longest common subsequence of texts.
func longestCommon(a, b []placed) (list [][2]int) {
	if len(a)*len(b) > maxTable {
		return nil
	}
	w := len(b) + 1
	table := make([]int32, (len(a)+1)*w)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i].text == b[j].text {
				table[i*w+j] = table[(i+1)*w+j+1] + 1
			} else {
				table[i*w+j] = max(table[(i+1)*w+j], table[i*w+j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i].text == b[j].text:
			list = append(list, [2]int{i, j})
			i, j = i+1, j+1
		case table[(i+1)*w+j] >= table[i*w+j+1]:
			i++
		default:
			j++
		}
	}
	return list
}
