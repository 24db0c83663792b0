package bake

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/micabuild/mica/internal/buildspec"
)

// Outputs are the outputs of a target.
type Outputs []Entry

func parseOutput(text string) ([]Entry, error) { return one(buildspec.ParseOutput(text)) }

// FromCtyValue reads the value in a file (hclparser.FromCtyValueConverter).
func (o *Outputs) FromCtyValue(in cty.Value, p cty.Path) (err error) {
	*o, err = parseEntries(in, p, parseOutput, buildspec.FinishOutput)
	return err
}

// ToCtyValue is the value in expressions of other targets (hclparser.ToCtyValueConverter).
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

// setPush applies --push, or --set target.push=false.
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

// dropPush removes what pushes. The order of the rest is buildx's.
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

// setLoad applies --load, which changes nothing if an output is not an image.
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

// Caches are the remote caches of a target.
type Caches []Entry

func finishCache(e *Entry) error {
	if e.Type == "" {
		return fmt.Errorf("type required for %q", e.String())
	}
	return nil
}

// FromCtyValue reads the value in a file (hclparser.FromCtyValueConverter).
func (c *Caches) FromCtyValue(in cty.Value, p cty.Path) (err error) {
	*c, err = parseEntries(in, p, buildspec.ParseCache, finishCache)
	return err
}

// ToCtyValue is the value in expressions of other targets (hclparser.ToCtyValueConverter).
func (c Caches) ToCtyValue() cty.Value { return entriesToCty(c) }

// Policies are rules about sources, which mica only prints.
type Policies []Entry

func parsePolicy(text string) ([]Entry, error) {
	return one(buildspec.ParseEntry(text, strings.ToLower))
}

// FromCtyValue reads the value in a file (hclparser.FromCtyValueConverter).
func (c *Policies) FromCtyValue(in cty.Value, p cty.Path) (err error) {
	*c, err = parseEntries(in, p, parsePolicy, func(*Entry) error { return nil })
	return err
}

// ToCtyValue is the value in expressions of other targets (hclparser.ToCtyValueConverter).
func (c Policies) ToCtyValue() cty.Value { return entriesToCty(c) }
