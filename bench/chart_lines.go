//go:build e2e

package main

import (
	"fmt"
	"math"
)

// lineChart draws a curve on logarithmic axes, where what grows linearly is a line of the slope that the grey ones have.
func lineChart(c *curveResult) *svg {
	s := &svg{width: chartWide, height: 360}
	a := newAxes(c)
	s.title(16, 24, c.Name)
	a.grid(s, c)
	for i, name := range c.lineNames() {
		colour := lineColours[i%len(lineColours)]
		dots := c.Lines[name]
		for j, d := range dots {
			x, y := a.x(d.X), a.y(d.Seconds.Median)
			if j > 0 {
				before := dots[j-1]
				s.line(a.x(before.X), a.y(before.Seconds.Median), x, y, colour, 2)
			}
			s.dot(x, y, colour)
			s.text(x, y-8, "middle", inkFaint, seconds(d.Seconds.Median))
		}
		last := dots[len(dots)-1]
		s.text(a.x(last.X)+10, a.y(last.Seconds.Median)+4, "start", colour, name)
	}
	return s
}

// axes turn values into places on the drawing.
type axes struct{ minX, maxX, minY, maxY float64 }

// The place of the axes on the drawing.
const (
	axisLeft, axisRight  = 80.0, chartWide - 110.0
	axisTop, axisBottom  = 50.0, 310.0
	smallestTime, decade = 1e-4, 10
)

func newAxes(c *curveResult) axes {
	a := axes{minX: math.Inf(1), minY: math.Inf(1)}
	for _, dots := range c.Lines {
		for _, d := range dots {
			a.minX, a.maxX = min(a.minX, d.X), max(a.maxX, d.X)
			a.minY, a.maxY = min(a.minY, d.Seconds.Median), max(a.maxY, d.Seconds.Median)
		}
	}
	// Whole decades of time.
	a.minY = math.Pow(decade, math.Floor(math.Log10(max(a.minY, smallestTime))))
	a.maxY = math.Pow(decade, math.Ceil(math.Log10(max(a.maxY, smallestTime*decade))))
	if a.maxX <= a.minX {
		a.maxX = a.minX * decade
	}
	return a
}

func (a axes) x(v float64) float64 {
	return axisLeft + (axisRight-axisLeft)*math.Log(v/a.minX)/math.Log(a.maxX/a.minX)
}

func (a axes) y(v float64) float64 {
	return axisBottom - (axisBottom-axisTop)*math.Log(max(v, smallestTime)/a.minY)/math.Log(a.maxY/a.minY)
}

// grid draws the axes, the slopes of linear growth, and what the axes say.
func (a axes) grid(s *svg, c *curveResult) {
	for v := a.minY; v <= a.maxY*1.01; v *= decade {
		s.line(axisLeft, a.y(v), axisRight, a.y(v), inkGrid, 1)
		s.text(axisLeft-8, a.y(v)+4, "end", inkFaint, decadeLabel(v))
		// From this height on the left, as far as it stays on the drawing.
		if end := min(a.maxX, a.minX*a.maxY/v); end > a.minX {
			s.line(axisLeft, a.y(v), a.x(end), a.y(v*end/a.minX), inkGrid, 0.7)
		}
	}
	for _, d := range c.Lines[c.lineNames()[0]] {
		s.text(a.x(d.X), axisBottom+18, "middle", inkFaint, number(d.X))
	}
	s.text((axisLeft+axisRight)/2, axisBottom+38, "middle", inkText, c.Unit)
}

// decadeLabel is a power of ten of seconds.
func decadeLabel(v float64) string {
	if v > 0.5 {
		return fmt.Sprintf("%.0f s", v)
	}
	return fmt.Sprintf("%g ms", math.Round(v*1e4)/10)
}
