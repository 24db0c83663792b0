package bake

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tonistiigi/go-csvvalue"
	"github.com/zclconf/go-cty/cty"
)

// Outputs are what is made of a target's result.
type Outputs []Entry

// parseOutput reads "type=local,dest=out", or a path alone for a folder, or "-" for a tar on stdout.
func parseOutput(text string) ([]Entry, error) {
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return nil, err
	}
	if len(fields) == 1 && fields[0] == text && !strings.HasPrefix(text, "type=") {
		if text == "-" {
			return []Entry{{"tar", map[string]string{"dest": "-"}}}, nil
		}
		return []Entry{{"local", map[string]string{"dest": text}}}, nil
	}
	e, err := splitEntry(text, func(k string) string { return strings.TrimSpace(strings.ToLower(k)) })
	if err == nil {
		err = finishOutput(&e)
	}
	return []Entry{e}, err
}

func finishOutput(e *Entry) error {
	if e.Type == "" {
		return errors.New("type is required for output")
	}
	if e.Attrs["dest"] == "" {
		delete(e.Attrs, "dest")
	}
	return nil
}

// FromCtyValue is told what a file has (hclparser.FromCtyValueConverter).
func (o *Outputs) FromCtyValue(in cty.Value, p cty.Path) (err error) {
	*o, err = parseEntries(in, p, parseOutput, finishOutput)
	return err
}

// ToCtyValue is what other targets see (hclparser.ToCtyValueConverter).
func (o Outputs) ToCtyValue() cty.Value {
	all := slices.Clone(o)
	for i, e := range all {
		all[i] = e.clone()
		if _, ok := e.Attrs["dest"]; !ok {
			all[i].Attrs["dest"] = ""
		}
	}
	return entriesToCty(all)
}

func (o Outputs) clone() Outputs {
	out := slices.Clone(o)
	for i := range out {
		out[i] = out[i].clone()
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
		if e.Type != "docker" {
			add = false
		}
		if e.Type == "image" {
			e.Attrs["push"] = "true"
		}
	}
	if add {
		out = append(out, Entry{"image", map[string]string{"push": "true"}})
	}
	return out
}

// dropPush takes away what pushes. The order is the one that buildx leaves.
func (o Outputs) dropPush() Outputs {
	for i := 0; i < len(o); {
		switch o[i].Type {
		case "registry":
			o[i] = o[len(o)-1]
			o = o[:len(o)-1]
			continue
		case "image":
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
		case "docker":
			if e.Attrs["dest"] == "" {
				return o
			}
		case "image", "registry", "oci":
		default:
			return o
		}
	}
	return append(o.clone(), Entry{"docker", map[string]string{}})
}

// Caches are where steps are taken from, or kept for others.
type Caches []Entry

// parseCache reads "type=registry,ref=name", or names alone.
func parseCache(text string) ([]Entry, error) {
	if !strings.Contains(text, "=") {
		refs, err := csvvalue.Fields(text, nil)
		var out []Entry
		for _, r := range refs {
			out = append(out, Entry{"registry", map[string]string{"ref": r}})
		}
		return out, err
	}
	e, err := splitEntry(text, strings.ToLower)
	if err == nil && e.Type == "" {
		err = fmt.Errorf("type required for %q", text)
	}
	return []Entry{e}, err
}

func finishCache(e *Entry) error {
	if e.Type == "" {
		return fmt.Errorf("type required for %q", e.String())
	}
	return nil
}

// FromCtyValue is told what a file has (hclparser.FromCtyValueConverter).
func (c *Caches) FromCtyValue(in cty.Value, p cty.Path) (err error) {
	*c, err = parseEntries(in, p, parseCache, finishCache)
	return err
}

// ToCtyValue is what other targets see (hclparser.ToCtyValueConverter).
func (c Caches) ToCtyValue() cty.Value { return entriesToCty(c) }

// Policies are rules about sources, which mica only shows.
type Policies []Entry

func parsePolicy(text string) ([]Entry, error) {
	e, err := splitEntry(text, strings.ToLower)
	return []Entry{e}, err
}

// FromCtyValue is told what a file has (hclparser.FromCtyValueConverter).
func (c *Policies) FromCtyValue(in cty.Value, p cty.Path) (err error) {
	*c, err = parseEntries(in, p, parsePolicy, func(*Entry) error { return nil })
	return err
}

// ToCtyValue is what other targets see (hclparser.ToCtyValueConverter).
func (c Policies) ToCtyValue() cty.Value { return entriesToCty(c) }

// Stdout reports whether one of the outputs is written to stdout.
func (o Outputs) Stdout() bool {
	return slices.ContainsFunc(o, func(e Entry) bool {
		dest := e.Attrs["dest"]
		return dest == "-" || dest == "" && (e.Type == "tar" || e.Type == "oci")
	})
}
