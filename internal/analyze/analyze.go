package analyze

import (
	"cmp"
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/analyze/filetree"
)

// Report is the analysis of an image. Its JSON is the output of `mica analyze --format json`.
type Report struct {
	Image      string        `json:"image"`
	ID         digest.Digest `json:"id,omitempty"`
	Size       int64         `json:"size"`  // the sum of the layers
	Files      int           `json:"files"` // in the image, directories not counted
	Efficiency float64       `json:"efficiency"`
	Wasted     Total         `json:"wasted"`     // bytes in layers that are not in the image
	Duplicates Total         `json:"duplicates"` // bytes of copies of files that are in the image
	Dive       Dive          `json:"dive"`
	Steps      []Step        `json:"steps"`
	Largest    []File        `json:"largestFiles"`
	Waste      []Waste       `json:"waste"`
	Copies     []Copies      `json:"copies"`
	Findings   []Finding     `json:"findings"`
	Checks     []Check       `json:"checks"`
	// SecretsUnread is how many files that may hold a secret were not read, as their content is elsewhere or too many are.
	SecretsUnread int `json:"secretsUnread,omitempty"`
	// Unverified is of how many layers only the table of contents was read that their publisher has made.
	Unverified int `json:"unverifiedLayers,omitempty"`
}

// Total is how many files there are of a kind, and their size.
type Total struct {
	Bytes int64 `json:"bytes"`
	Files int   `json:"files"`
}

// File is a file of the image.
type File struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Step  int    `json:"step"` // that wrote it
}

// Copies are files of an image that have the same content.
type Copies struct {
	Digest digest.Digest `json:"digest"`
	Bytes  int64         `json:"bytes"` // of one
	Paths  []string      `json:"paths"` // sorted
}

// Kind is the kind of a finding.
type Kind string

// The kinds of findings.
const (
	KindSecret    Kind = "secret"
	KindCache     Kind = "cache"
	KindWaste     Kind = "waste"
	KindDuplicate Kind = "duplicate"
)

// Kinds are the kinds of findings, in the order of a report.
var Kinds = []Kind{KindSecret, KindWaste, KindCache, KindDuplicate}

// Finding is something that an author of the image may want to change.
type Finding struct {
	Kind   Kind   `json:"kind"`
	Path   string `json:"path,omitempty"`
	Step   int    `json:"step,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	Files  int    `json:"files,omitempty"`
	Text   string `json:"text"`
	Advice string `json:"advice"`
}

// Options bound a report.
type Options struct {
	Top int // of the largest files, the wasted paths and the copies; all if it is 0
}

// analysis is a report in the making.
type analysis struct {
	image  *Image
	tree   *filetree.Tree
	steps  []Step
	owner  []int // of each layer: the number of its step
	report *Report
}

// Analyze analyzes an image. It has digests computed first, without which copies are not found.
func Analyze(ctx context.Context, img *Image, o Options) (*Report, error) {
	if img.AddDigests != nil {
		if err := img.AddDigests(ctx); err != nil {
			return nil, err
		}
	}
	tree, err := Load(ctx, img)
	if err != nil {
		return nil, err
	}
	return reportOf(ctx, img, tree, o)
}

// FromTree is Analyze of an image whose tables of contents have been loaded. If they lack digests, they are read again with them.
func FromTree(ctx context.Context, img *Image, tree *filetree.Tree, o Options) (*Report, error) {
	if !tree.Undigested || img.AddDigests == nil {
		return reportOf(ctx, img, tree, o)
	}
	if err := img.AddDigests(ctx); err != nil {
		return nil, err
	}
	tables, err := lists(ctx, img)
	if err != nil {
		return nil, err
	}
	if digested, ok := tree.Replace(tables); ok {
		return reportOf(ctx, img, digested, o)
	}
	return Analyze(ctx, img, o)
}

// reportOf analyzes an image. Files without digests are no copies.
func reportOf(ctx context.Context, img *Image, tree *filetree.Tree, o Options) (*Report, error) {
	a := &analysis{image: img, tree: tree, steps: Steps(img), report: &Report{Image: img.Name, ID: img.ID, Checks: []Check{}, Findings: []Finding{}, Steps: []Step{}}}
	for _, s := range a.steps {
		if s.Layer > 0 {
			a.owner = append(a.owner, s.Number)
		}
	}
	r := a.report
	for _, l := range img.Layers {
		r.Size += l.Size
	}
	r.Dive = diveScore(tree)
	r.Efficiency = r.Dive.Efficiency
	r.Waste = a.waste()
	a.count()
	files := a.files()
	r.Largest = a.largest(files, o.Top)
	r.Copies = a.copies(files)
	secrets, err := a.secrets(ctx)
	if err != nil {
		return nil, err
	}
	for _, found := range [][]Finding{secrets, a.wasteFindings(), a.caches(), a.copyFindings()} {
		r.Findings = append(r.Findings, found...)
	}
	r.Waste, r.Copies, r.Steps = first(r.Waste, o.Top), first(r.Copies, o.Top), append(r.Steps, a.steps...)
	return r, nil
}

// first is the beginning of a list.
func first[T any](list []T, n int) []T {
	if n > 0 && len(list) > n {
		list = list[:n]
	}
	return list
}

// step is the number of the step that made a layer.
func (a *analysis) step(layer int) int {
	if layer < 0 || layer >= len(a.owner) {
		return 0
	}
	return a.owner[layer]
}

// count counts what the steps changed.
func (a *analysis) count() {
	a.tree.Walk(func(n *filetree.Node) bool {
		for i := range n.Versions {
			v := &n.Versions[i]
			if v.Layer < 0 {
				continue
			}
			s := &a.steps[a.step(v.Layer)-1]
			there := i > 0 && isFile(&n.Versions[i-1])
			switch {
			case isFile(v) && there:
				s.Modified++
			case isFile(v):
				s.Added++
			case there:
				s.Removed++
			}
		}
		return true
	})
}

// isFile reports whether a version is anything but a directory.
func isFile(v *filetree.Version) bool { return v.Present() && !v.IsDir() }

// files are the regular files of the image that have content, each once, the largest first.
func (a *analysis) files() (list []*filetree.Node) {
	a.tree.Walk(func(n *filetree.Node) bool {
		v := n.At(a.tree.Layers)
		if v == nil || !v.Present() {
			return true
		}
		if !v.IsDir() {
			a.report.Files++
		}
		if v.Bytes() > 0 {
			list = append(list, n)
		}
		return true
	})
	slices.SortFunc(list, func(x, y *filetree.Node) int {
		return cmp.Compare(a.size(y), a.size(x))
	})
	return list
}

// size is the size of a file of the image.
func (a *analysis) size(n *filetree.Node) int64 { return n.At(a.tree.Layers).Size() }

// largest describes the largest files of a list.
func (a *analysis) largest(files []*filetree.Node, top int) []File {
	list := []File{}
	for _, n := range first(files, top) {
		list = append(list, File{Path: n.Path(), Bytes: a.size(n), Step: a.step(n.At(a.tree.Layers).Layer)})
	}
	slices.SortStableFunc(list, func(a, b File) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Path, b.Path)) })
	return list
}
