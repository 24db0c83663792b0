// Command charts draws the results of the benchmark as SVG. It has a module of its own, so that mica does not depend on a
// plotting library.
package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"log"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// results is what the charts show of results.json.
type results struct {
	Rows   []row   `json:"rows"`
	Curves []curve `json:"curves"`
}

type row struct {
	Group string            `json:"group"`
	Name  string            `json:"name"`
	Times map[string]sample `json:"times"`
	Ratio float64           `json:"ratio"` // of mica's median to the best peer's
}

type sample struct {
	Median float64 `json:"median"` // in seconds
}

type curve struct {
	Name  string           `json:"name"`
	Unit  string           `json:"unit"`
	Lines map[string][]dot `json:"lines"`
}

type dot struct {
	X       float64 `json:"x"`
	Seconds sample  `json:"seconds"`
}

func main() {
	log.SetFlags(0)
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	plotter.DefaultFont = plot.DefaultFont
	if len(os.Args) != 2 {
		log.Fatal("usage: charts DIRECTORY: draws DIRECTORY/results.json beside it")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatalf("charts: %v", err)
	}
}

func run(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		return err
	}
	var r results
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("results.json: %w", err)
	}
	var names []string
	groups := map[string][]row{}
	for _, row := range r.Rows {
		if groups[row.Group] == nil {
			names = append(names, row.Group)
		}
		groups[row.Group] = append(groups[row.Group], row)
	}
	for _, name := range names {
		p, height, err := barChart(groups[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := save(p, height, filepath.Join(dir, slug(name)+".svg")); err != nil {
			return err
		}
	}
	for _, c := range r.Curves {
		p, err := lineChart(c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		if err := save(p, 4*vg.Inch, filepath.Join(dir, "growth-"+slug(c.Name)+".svg")); err != nil {
			return err
		}
	}
	return nil
}

// save writes a chart to a file.
func save(p *plot.Plot, height vg.Length, file string) error {
	const margin = 8
	canvas := vgsvg.New(9*vg.Inch, height)
	p.BackgroundColor = nil
	area := draw.New(canvas)
	area.SetColor(color.White)
	area.Fill(area.Rectangle.Path())
	p.Draw(draw.Crop(area, margin, -margin, margin, -margin))
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// slug returns a heading as the name of a file. The page of the benchmark makes the same names.
func slug(s string) string {
	words := strings.FieldsFunc(strings.ToLower(s), func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') })
	return strings.Join(words, "-")
}

// duration returns seconds in the unit that is read best.
func duration(seconds float64) string {
	switch {
	case seconds < 0.2:
		return fmt.Sprintf("%.3g ms", seconds*1000)
	case seconds < 10:
		return fmt.Sprintf("%.2g s", seconds)
	}
	return fmt.Sprintf("%.0f s", seconds)
}
