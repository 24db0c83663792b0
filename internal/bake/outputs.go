package bake

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/micabuild/mica/internal/buildspec"
)

// Outputs are what is made of a target's result.
type Outputs []Entry

func parseOutput(text string) ([]Entry, error) { return one(buildspec.ParseOutput(text)) }

// FromCtyValue is told what a file has (hclparser.FromCtyValueConverter).
func (o *Outputs) FromCtyValue(in cty.Value, p cty.Path) (err error) {
	*o, err = parseEntries(in, p, parseOutput, buildspec.FinishOutput)
	return err
}

// ToCtyValue is what other targets see (hclparser.ToCtyValueConverter).
func (o Outputs) ToCtyValue() cty.Value {
	all := slices.Clone(o)
	for i, e := range all {
		all[i] = e.Clone()
		if _, ok := e.Attrs["dest"]; !ok {
			all[i].Attrs["dest"] = ""
		}
	}
	return entriesToCty(all)
}

func (o Outputs) clone() Outputs {
	out := slices.Clone(o)
	for i := range out {
		out[i] = out[i].Clone()
		if out[i].Attrs == nil {
			out[i].Attrs = map[string]string{}
		}
	}
	return out
}

// setPush is what --push does to the outputs, or --set target.push=false.
func (o Outputs) setPush(push bool) Outputs {
	out := o.clone()
	if !push {
		return out.dropPush()
	}
	add := true
	for _, e := range out {
		if e.Type != buildspec.OutputDocker {
			add = false
		}
		if e.Type == buildspec.OutputImage {
			e.Attrs["push"] = "true"
		}
	}
	if add {
		out = append(out, Entry{Type: buildspec.OutputImage, Attrs: map[string]string{"push": "true"}})
	}
	return out
}

// dropPush takes away what pushes. The order is the one that buildx leaves.
func (o Outputs) dropPush() Outputs {
	for i := 0; i < len(o); {
		switch o[i].Type {
		case buildspec.OutputRegistry:
			o[i] = o[len(o)-1]
			o = o[:len(o)-1]
			continue
		case buildspec.OutputImage:
			o[i].Attrs["push"] = "false"
		}
		i++
	}
	return o
}

// setLoad is what --load does to the outputs: nothing where there are such that are no images.
func (o Outputs) setLoad(load bool) Outputs {
	if !load {
		return o
	}
	for _, e := range o {
		switch e.Type {
		case buildspec.OutputDocker:
			if e.Attrs["dest"] == "" {
				return o
			}
		case buildspec.OutputImage, buildspec.OutputRegistry, buildspec.OutputOCI:
		default:
			return o
		}
	}
	return append(o.clone(), Entry{Type: buildspec.OutputDocker, Attrs: map[string]string{}})
}

// Caches are where steps are taken from, or kept for others.
type Caches []Entry

func finishCache(e *Entry) error {
	if e.Type == "" {
		return fmt.Errorf("type required for %q", e.String())
	}
	return nil
}

// FromCtyValue is told what a file has (hclparser.FromCtyValueConverter).
func (c *Caches) FromCtyValue(in cty.Value, p cty.Path) (err error) {
	*c, err = parseEntries(in, p, buildspec.ParseCache, finishCache)
	return err
}

// ToCtyValue is what other targets see (hclparser.ToCtyValueConverter).
func (c Caches) ToCtyValue() cty.Value { return entriesToCty(c) }

// Policies are rules about sources, which mica only shows.
type Policies []Entry

func parsePolicy(text string) ([]Entry, error) {
	return one(buildspec.ParseEntry(text, strings.ToLower))
}

// FromCtyValue is told what a file has (hclparser.FromCtyValueConverter).
func (c *Policies) FromCtyValue(in cty.Value, p cty.Path) (err error) {
	*c, err = parseEntries(in, p, parsePolicy, func(*Entry) error { return nil })
	return err
}

// ToCtyValue is what other targets see (hclparser.ToCtyValueConverter).
func (c Policies) ToCtyValue() cty.Value { return entriesToCty(c) }
