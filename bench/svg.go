//go:build e2e

package main

import (
	"bytes"
	"fmt"
	"html"
	"os"
)

// svg is a drawing: elements, and how large it is.
type svg struct {
	body          bytes.Buffer
	width, height float64
}

// What all charts share.
const (
	fontSize  = 12
	inkText   = "#1f2328"
	inkFaint  = "#656d76"
	inkGrid   = "#d0d7de"
	chartWide = 860
)

// colours are those of the contestants.
var colours = map[kind]string{
	kindMica: "#0969da", kindBuildKit: "#8c959f", kindDocker: "#a5b4c3", kindBuildah: "#c4b59d", kindCrane: "#b7a3c9",
}

// lineColours are those of the lines of a curve, in turn.
var lineColours = []string{"#0969da", "#bc4c00", "#1a7f37"}

func (s *svg) rect(x, y, w, h float64, fill string) {
	fmt.Fprintf(&s.body, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=%q rx=\"2\"/>\n", x, y, w, h, fill)
}

func (s *svg) line(x1, y1, x2, y2 float64, stroke string, width float64) {
	fmt.Fprintf(&s.body, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=%q stroke-width=\"%g\"/>\n", x1, y1, x2, y2, stroke, width)
}

func (s *svg) dot(x, y float64, fill string) {
	fmt.Fprintf(&s.body, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=%q/>\n", x, y, fill)
}

// text writes at a baseline; anchor is start, middle or end.
func (s *svg) text(x, y float64, anchor, fill, words string) {
	fmt.Fprintf(&s.body, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=%q fill=%q>%s</text>\n", x, y, anchor, fill, html.EscapeString(words))
}

func (s *svg) title(x, y float64, words string) {
	fmt.Fprintf(&s.body, "<text x=\"%.1f\" y=\"%.1f\" fill=%q font-weight=\"600\">%s</text>\n", x, y, inkText, html.EscapeString(words))
}

// save writes the drawing on a white ground, so that it can be read on a dark page, too.
func (s *svg) save(file string) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" "+
		"font-family=\"system-ui, sans-serif\" font-size=\"%d\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\" rx=\"6\"/>\n",
		s.width, s.height, s.width, s.height, fontSize)
	out.Write(s.body.Bytes())
	out.WriteString("</svg>\n")
	return os.WriteFile(file, out.Bytes(), 0o644)
}
