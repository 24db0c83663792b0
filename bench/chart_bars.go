//go:build e2e

package main

import "fmt"

// barChart draws rows, each with a bar for mica and for every peer; the longest bar of each row is as wide as the others'.
func barChart(rows []*rowResult) *svg {
	const barHeight, rowGap, left, right, margin = 15, 14, 90, 130, 16
	s := &svg{width: chartWide}
	y := float64(margin)
	for _, r := range rows {
		longest := 0.0
		for _, t := range r.Times {
			longest = max(longest, t.Median)
		}
		if longest == 0 {
			continue
		}
		y += fontSize
		s.title(margin, y, r.Name)
		s.text(chartWide-margin, y, "end", inkFaint, verdict(r))
		y += 6
		for _, k := range kinds {
			t := r.Times[k]
			if t == nil {
				continue
			}
			width := max(1, t.Median/longest*(chartWide-left-right-margin))
			s.text(left-6, y+barHeight-4, "end", inkText, string(k))
			s.rect(left, y, width, barHeight-2, colours[k])
			s.text(left+width+6, y+barHeight-4, "start", inkText, seconds(t.Median))
			y += barHeight
		}
		y += rowGap
	}
	s.height = y
	return s
}

// verdict is what a row's ratio is, against its target.
func verdict(r *rowResult) string {
	switch {
	case r.Ratio == 0:
		return ""
	case r.Target == (target{}):
		return fmt.Sprintf("%.2f of the best peer", r.Ratio)
	}
	return fmt.Sprintf("%.2f of the best peer, target %s %s", r.Ratio, r.Target, mark(r))
}
