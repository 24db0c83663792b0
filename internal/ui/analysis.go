package ui

import (
	"context"
	"net/http"
	"net/url"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/terminal"
)

// maxReported is how many files and paths a report lists.
const maxReported = 50

// reportPage is what mica analyze finds in an image, with texts as they may be shown. Steps are numbers of StepList, from 1.
type reportPage struct {
	Efficiency    string        `json:"efficiency"` // in words
	Ratio         float64       `json:"ratio"`
	Size          int64         `json:"size"`
	Files         int           `json:"files"`
	Wasted        analyze.Total `json:"wasted"`
	Duplicates    analyze.Total `json:"duplicates"`
	Steps         []reportStep  `json:"steps"`
	Findings      []findingRow  `json:"findings"`
	Waste         []wasteRow    `json:"waste"`
	Largest       []largeRow    `json:"largest"`
	Copies        []copiesRow   `json:"copies"`
	SecretsUnread int           `json:"secretsUnread,omitempty"`
}

type reportStep struct {
	Instruction string `json:"instruction"`
	Layer       int    `json:"layer"` // its index, -1 for none
	Size        int64  `json:"size"`
	Added       int    `json:"added"`
	Modified    int    `json:"modified"`
	Removed     int    `json:"removed"`
	Wasted      int64  `json:"wasted"`
}

type findingRow struct {
	Kind   analyze.Kind `json:"kind"`
	Path   string       `json:"path,omitempty"`
	Step   int          `json:"step,omitempty"`
	Bytes  int64        `json:"bytes,omitempty"`
	Text   string       `json:"text"`
	Advice string       `json:"advice"`
}

type wasteRow struct {
	Path  string      `json:"path"`
	How   analyze.How `json:"how"`
	Bytes int64       `json:"bytes"`
	Files int         `json:"files"`
	Step  int         `json:"step"`
	By    int         `json:"by"`
}

type largeRow struct {
	Path  string `json:"path"`
	Ref   string `json:"ref"` // the path as a parameter of a URL
	Bytes int64  `json:"bytes"`
	Step  int    `json:"step"`
}

type copiesRow struct {
	Bytes int64    `json:"bytes"` // of one
	Paths []string `json:"paths"`
	Count int      `json:"count"` // of which Paths may be a part
}

// analysis returns the report of an image. It is made once.
func (t *imageTree) analysis(ctx context.Context, img *opened) (*analyze.Report, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.report != nil {
		return t.report, nil
	}
	in, err := img.Analyzed(ctx)
	if err != nil {
		return nil, err
	}
	r, err := analyze.FromTree(ctx, in, t.all, analyze.Options{Top: maxReported})
	if err == nil {
		t.report = r
	}
	return r, err
}

func (s *Server) analyzeImage(r *http.Request) (any, error) {
	img, err := s.openNamed(r)
	if err != nil {
		return nil, err
	}
	defer img.close()
	t, err := s.tree(r.Context(), img)
	if err != nil {
		return nil, err
	}
	report, err := t.analysis(r.Context(), img)
	if err != nil {
		return nil, err
	}
	return newReportPage(report), nil
}

// maxCopies is how many paths of one content a report lists.
const maxCopies = 20

func newReportPage(r *analyze.Report) *reportPage {
	show := terminal.EscapeString
	p := &reportPage{
		Efficiency: analyze.Percent(r.Efficiency), Ratio: r.Efficiency, Size: r.Size, Files: r.Files, Wasted: r.Wasted, Duplicates: r.Duplicates,
		Steps: []reportStep{}, Findings: []findingRow{}, Waste: []wasteRow{}, Largest: []largeRow{}, Copies: []copiesRow{}, SecretsUnread: r.SecretsUnread,
	}
	for _, s := range r.Steps {
		p.Steps = append(p.Steps, reportStep{show(s.Instruction), s.Layer - 1, s.Size, s.Added, s.Modified, s.Removed, s.Wasted})
	}
	for _, f := range r.Findings {
		p.Findings = append(p.Findings, findingRow{f.Kind, show(f.Path), f.Step, f.Bytes, show(f.Text), show(f.Advice)})
	}
	for _, w := range r.Waste {
		p.Waste = append(p.Waste, wasteRow{show(w.Path), w.How, w.Bytes, w.Files, w.Step, w.By})
	}
	for _, f := range r.Largest {
		p.Largest = append(p.Largest, largeRow{show(f.Path), url.QueryEscape(trimRoot(f.Path)), f.Bytes, f.Step})
	}
	for _, c := range r.Copies {
		row := copiesRow{Bytes: c.Bytes, Count: len(c.Paths)}
		for _, path := range c.Paths[:min(len(c.Paths), maxCopies)] {
			row.Paths = append(row.Paths, show(path))
		}
		p.Copies = append(p.Copies, row)
	}
	return p
}
