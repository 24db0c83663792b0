package main

import (
	"image/color"
	"maps"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
)

var (
	lineColours = []color.RGBA{{0x09, 0x69, 0xda, 0xff}, {0xbc, 0x4c, 0x00, 0xff}, {0x1a, 0x7f, 0x37, 0xff}}
	grey        = color.RGBA{0xd0, 0xd7, 0xde, 0xff}
)

// smallest is the shortest time that a logarithmic axis shows, in seconds.
const smallest = 1e-4

// lineChart draws a curve on logarithmic axes. Linear growth is a line with the slope of the grey ones.
func lineChart(c curve) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Name, c.Unit, "seconds"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	limits := frame(c)
	if err := addSlopes(p, limits); err != nil {
		return nil, err
	}
	for i, name := range slices.Sorted(maps.Keys(c.Lines)) {
		if err := addLine(p, name, c.Lines[name], lineColours[i%len(lineColours)]); err != nil {
			return nil, err
		}
	}
	// Beside the outer points there is room for half of their times.
	margin := math.Pow(limits.x1/limits.x0, 0.04)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = limits.x0/margin, limits.x1*margin, limits.y0, limits.y1
	return p, nil
}

// addLine adds the points of a line, with their times.
func addLine(p *plot.Plot, name string, dots []dot, colour color.Color) error {
	texts := plotter.XYLabels{}
	for _, d := range dots {
		texts.XYs = append(texts.XYs, plotter.XY{X: d.X, Y: max(d.Seconds.Median, smallest)})
		texts.Labels = append(texts.Labels, duration(d.Seconds.Median))
	}
	line, points, err := plotter.NewLinePoints(texts.XYs)
	if err != nil {
		return err
	}
	line.Color, line.Width, points.Color = colour, vg.Points(1.5), colour
	labels, err := plotter.NewLabels(texts)
	if err != nil {
		return err
	}
	labels.Offset.Y = vg.Points(5)
	for i := range labels.TextStyle {
		labels.TextStyle[i].XAlign = text.XCenter
	}
	p.Add(line, points, labels)
	p.Legend.Add(name, line, points)
	return nil
}

// rectangle holds the limits of the axes.
type rectangle struct{ x0, x1, y0, y1 float64 }

// frame returns the limits of a curve: whole decades of time.
func frame(c curve) rectangle {
	r := rectangle{x0: math.Inf(1), y0: math.Inf(1)}
	for _, dots := range c.Lines {
		for _, d := range dots {
			y := max(d.Seconds.Median, smallest)
			r.x0, r.x1, r.y0, r.y1 = min(r.x0, d.X), max(r.x1, d.X), min(r.y0, y), max(r.y1, y)
		}
	}
	r.y0, r.y1 = math.Pow10(int(math.Floor(math.Log10(r.y0)))), math.Pow10(int(math.Ceil(math.Log10(r.y1))))
	if r.y1 <= r.y0 {
		r.y1 = r.y0 * 10
	}
	if r.x1 <= r.x0 {
		r.x1 = r.x0 * 10
	}
	return r
}

// addSlopes adds lines of linear growth, one from each decade of time.
func addSlopes(p *plot.Plot, r rectangle) error {
	for y := r.y0; y < r.y1*0.99; y *= 10 {
		end := min(r.x1, r.x0*r.y1/y)
		line, err := plotter.NewLine(plotter.XYs{{X: r.x0, Y: y}, {X: end, Y: y * end / r.x0}})
		if err != nil {
			return err
		}
		line.Color = grey
		p.Add(line)
	}
	return nil
}
