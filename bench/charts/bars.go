package main

import (
	"fmt"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
)

// contestants are the bars of a row, from the top.
var contestants = []struct {
	name   string
	colour color.RGBA
}{
	{"mica", color.RGBA{0x09, 0x69, 0xda, 0xff}},
	{"mica serve", color.RGBA{0x54, 0x9e, 0xe8, 0xff}},
	{"BuildKit", color.RGBA{0x8c, 0x95, 0x9f, 0xff}},
	{"Docker", color.RGBA{0xa5, 0xb4, 0xc3, 0xff}},
	{"Docker 29", color.RGBA{0x92, 0xb0, 0xb8, 0xff}},
	{"Buildah", color.RGBA{0xc4, 0xb5, 0x9d, 0xff}},
	{"crane", color.RGBA{0xb7, 0xa3, 0xc9, 0xff}},
}

// bars are the lines of a bar chart, from the top: a title or a bar on each.
type bars struct {
	labels []string             // of the axis
	values map[string][]float64 // by contestant; 0 where the line is not its bar
	times  plotter.XYLabels     // at the ends of the bars
	titles plotter.XYLabels
}

// barChart draws rows. The longest bar of each row has the length 1: times of different rows are not compared.
func barChart(rows []row) (*plot.Plot, vg.Length, error) {
	b := bars{values: map[string][]float64{}}
	for _, r := range rows {
		b.add(r)
	}
	p := plot.New()
	p.HideX()
	p.X.Min, p.X.Max = 0, 1.15
	p.Y.LineStyle.Width, p.Y.Tick.LineStyle.Width = 0, 0
	n := len(b.labels)
	// The axis begins at the bottom.
	slices.Reverse(b.labels)
	p.NominalY(b.labels...)
	const thick = 12
	for _, c := range contestants {
		if b.values[c.name] == nil {
			continue
		}
		values := make(plotter.Values, n)
		copy(values, b.values[c.name])
		slices.Reverse(values)
		chart, err := plotter.NewBarChart(values, vg.Points(thick))
		if err != nil {
			return nil, 0, err
		}
		chart.Horizontal, chart.Color, chart.LineStyle.Width = true, c.colour, 0
		p.Add(chart)
	}
	for _, texts := range []plotter.XYLabels{b.times, b.titles} {
		for i := range texts.XYs {
			texts.XYs[i].Y = float64(n-1) - texts.XYs[i].Y
		}
		labels, err := plotter.NewLabels(texts)
		if err != nil {
			return nil, 0, err
		}
		for i := range labels.TextStyle {
			labels.TextStyle[i].YAlign = text.YCenter
		}
		labels.Offset.X = vg.Points(4)
		p.Add(labels)
	}
	p.Y.Min, p.Y.Max = -0.6, float64(n)-0.4
	return p, vg.Points(float64(n)*(thick+3) + 20), nil
}

// add appends the title and the bars of a row.
func (b *bars) add(r row) {
	longest := 0.0
	for _, t := range r.Times {
		longest = max(longest, t.Median)
	}
	if longest == 0 {
		return
	}
	title := r.Name
	if r.Ratio > 0 {
		title += fmt.Sprintf(" (mica: %.2f of the best peer)", r.Ratio)
	}
	b.titles.XYs = append(b.titles.XYs, plotter.XY{Y: float64(len(b.labels))})
	b.titles.Labels = append(b.titles.Labels, title)
	b.labels = append(b.labels, "")
	for _, c := range contestants {
		t, ok := r.Times[c.name]
		if !ok {
			continue
		}
		line := len(b.labels)
		values := append(b.values[c.name], make([]float64, line+1-len(b.values[c.name]))...)
		values[line] = t.Median / longest
		b.values[c.name] = values
		b.times.XYs = append(b.times.XYs, plotter.XY{X: values[line], Y: float64(line)})
		b.times.Labels = append(b.times.Labels, duration(t.Median))
		b.labels = append(b.labels, c.name)
	}
}
