//go:build e2e

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"slices"
)

// A curve is how a cost of mica grows.
type curve struct {
	name, unit string // the unit of what grows: "files"
	xs         []float64
	// lines prepares one point, and gives what is measured there.
	lines func(x float64) ([]line, error)
}

// line is one of the costs that a curve shows. Its command makes everything new that must be.
type line struct {
	name    string
	command func() (engine, *exec.Cmd, error)
	discard bool // the engine is the run's own
}

// curveResult is a curve as it was measured.
type curveResult struct {
	Name  string                `json:"name"`
	Unit  string                `json:"unit"`
	Lines map[string][]curveDot `json:"lines"`
}

func (c *curveResult) lineNames() []string { return slices.Sorted(maps.Keys(c.Lines)) }

// curveDot is one point of a line.
type curveDot struct {
	X        float64 `json:"x"`
	Seconds  sample  `json:"seconds"`
	Memory   int64   `json:"memory"`             // peak, in bytes
	Exponent float64 `json:"exponent,omitempty"` // of the growth from the point before: 1 is linear
}

// linear is the exponent up to which growth is taken for linear: times vary by a few percent.
const linear = 1.1

// curveRuns is how often a point of a curve is measured, at most.
const curveRuns = 3

// grow measures a curve.
func (b *bench) grow(ctx context.Context, c curve) (*curveResult, error) {
	r := &curveResult{Name: c.name, Unit: c.unit, Lines: map[string][]curveDot{}}
	for _, x := range c.xs {
		lines, err := c.lines(x)
		if err != nil {
			return nil, fmt.Errorf("%s: %s %s: %w", c.name, number(x), c.unit, err)
		}
		for _, l := range lines {
			dot := curveDot{X: x}
			for range min(b.runs, curveRuns) {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				if err := b.dot(l, &dot); err != nil {
					return nil, fmt.Errorf("%s: %s %s: %s: %w", c.name, number(x), c.unit, l.name, err)
				}
			}
			if before := r.Lines[l.name]; len(before) > 0 {
				dot.Exponent = exponent(before[len(before)-1], dot)
			}
			r.Lines[l.name] = append(r.Lines[l.name], dot)
		}
		fmt.Fprintf(os.Stderr, "%s: %s %s\n", c.name, number(x), c.unit)
	}
	return r, nil
}

func (b *bench) dot(l line, d *curveDot) error {
	e, cmd, err := l.command()
	if err != nil {
		return err
	}
	m, err := b.time(e, cmd, false)
	d.Seconds.add(m.seconds)
	d.Memory = max(d.Memory, m.memory)
	if l.discard {
		err = errors.Join(err, b.discard(e))
	}
	return err
}

// exponent is k where the time grows as x to the power of k, between two points.
func exponent(from, to curveDot) float64 {
	return math.Log(to.Seconds.Median/from.Seconds.Median) / math.Log(to.X/from.X)
}

// steep tells where a curve grows faster than linearly.
func (d curveDot) steep() bool { return d.Exponent > linear }

// writeCurve writes a curve as a table.
func writeCurve(w io.Writer, c *curveResult) {
	names := c.lineNames()
	fmt.Fprintf(w, "| %s: %s |", c.Name, c.Unit)
	for _, n := range names {
		fmt.Fprintf(w, " %s | exponent | memory |", n)
	}
	fmt.Fprint(w, "\n|---|")
	for range names {
		fmt.Fprint(w, "---|---|---|")
	}
	fmt.Fprintln(w)
	for i, first := range c.Lines[names[0]] {
		fmt.Fprintf(w, "| %s |", number(first.X))
		for _, n := range names {
			d := c.Lines[n][i]
			fmt.Fprintf(w, " %s | %s | %s |", seconds(d.Seconds.Median), exponentCell(d), megabytes(d.Memory))
		}
		fmt.Fprintln(w)
	}
}

func exponentCell(d curveDot) string {
	switch {
	case d.Exponent == 0:
		return ""
	case d.steep():
		return fmt.Sprintf("%.2f ✗", d.Exponent)
	}
	return fmt.Sprintf("%.2f", d.Exponent)
}

// number is a count with its thousands apart.
func number(x float64) string {
	s := fmt.Sprintf("%.0f", x)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
