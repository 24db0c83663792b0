package bake

import (
	"encoding/json"
	"maps"

	"github.com/zclconf/go-cty/cty"

	"github.com/micabuild/mica/internal/buildspec"
)

// Attests are the attestations of a target. One that is disabled has the attribute "disabled" with the value "true".
type Attests []Entry

func parseAttest(text string) ([]Entry, error) { return one(buildspec.ParseAttest(text)) }

// FromCtyValue reads the value in a file (hclparser.FromCtyValueConverter).
func (a *Attests) FromCtyValue(in cty.Value, p cty.Path) (err error) {
	*a, err = parseEntries(in, p, parseAttest, buildspec.FinishAttest)
	return err
}

// ToCtyValue is the value in expressions of other targets (hclparser.ToCtyValueConverter).
func (a Attests) ToCtyValue() cty.Value { return entriesToCty(a) }

func (a Attests) normal() Attests {
	return replaceByKey(a, func(e Entry) string { return e.Type })
}

// MarshalJSON writes disabled as a boolean, as buildx does.
func (a Attests) MarshalJSON() ([]byte, error) {
	out := []map[string]any{}
	for _, e := range a {
		m := map[string]any{"type": e.Type}
		for k, v := range maps.All(e.Attrs) {
			m[k] = v
		}
		if _, ok := e.Attrs["disabled"]; ok {
			m["disabled"] = true
		}
		out = append(out, m)
	}
	return json.Marshal(out)
}
