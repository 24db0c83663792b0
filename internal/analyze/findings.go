package analyze

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/docker/go-units"
)

// worthSaying is how many bytes a finding is at least about: a hint that saves less is noise.
const worthSaying = 100 << 10

// maxFindings bounds the findings of one kind.
const maxFindings = 50

// wasteFindings joins what one step wasted of another, as they are mended together.
func (a *analysis) wasteFindings() []Finding {
	type key struct {
		how      How
		step, by int
	}
	groups := map[key]*Finding{}
	largest := map[key]int64{}
	for _, w := range a.report.Waste {
		k := key{w.How, w.Step, w.By}
		f := groups[k]
		if f == nil {
			f = &Finding{Kind: KindWaste, Step: w.By}
			groups[k] = f
		}
		if w.Bytes > largest[k] {
			f.Path, largest[k] = w.Path, w.Bytes
		}
		f.Bytes += w.Bytes
		f.Files += w.Files
	}
	list := []Finding{}
	for k, f := range groups {
		if f.Bytes < worthSaying {
			continue
		}
		f.Text, f.Advice = wasteText(k.how, k.step, k.by, f)
		list = append(list, *f)
	}
	return sortFindings(list)
}

func wasteText(how How, step, by int, f *Finding) (text, advice string) {
	what := fmt.Sprintf("%s of step %d", countFiles(f.Files, f.Bytes), step)
	switch how {
	case Removed:
		stay, them := "stay", "them"
		if f.Files == 1 {
			stay, them = "stays", "it"
		}
		return fmt.Sprintf("step %d removes %s, which %s in the layer", by, what, stay),
			fmt.Sprintf("remove %s in step %d itself, or build in a stage and COPY the result", them, step)
	case Rewritten:
		return fmt.Sprintf("step %d writes %s again with the same content", by, what),
			"set mode and owner where the files are written: COPY --chmod, COPY --chown, or chmod in the same RUN"
	}
	return fmt.Sprintf("step %d replaces %s", by, what),
		fmt.Sprintf("write them once: join steps %d and %d, or build in a stage and COPY the result", step, by)
}

// copyFindings are the copies that save most.
func (a *analysis) copyFindings() []Finding {
	list := []Finding{}
	for _, c := range a.report.Copies {
		if c.saved() >= worthSaying {
			list = append(list, Finding{
				Kind: KindDuplicate, Path: c.Paths[0], Bytes: c.saved(), Files: len(c.Paths) - 1,
				Text:   fmt.Sprintf("%d files have the same content, %s each", len(c.Paths), Size(c.Bytes)),
				Advice: "keep one, and make the others links to it",
			})
		}
	}
	return sortFindings(list)
}

// sortFindings sorts findings by size, and cuts the list.
func sortFindings(list []Finding) []Finding {
	slices.SortFunc(list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Text, b.Text))
	})
	return first(list, maxFindings)
}

func countFiles(n int, bytes int64) string {
	if n == 1 {
		return fmt.Sprintf("1 file (%s)", Size(bytes))
	}
	return fmt.Sprintf("%d files (%s)", n, Size(bytes))
}

// Size is a size in words, as Docker prints it.
func Size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
