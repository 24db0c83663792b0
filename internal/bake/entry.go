package bake

import (
	"slices"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/micabuild/mica/internal/buildspec"
)

// Entry is a value that has a type and attributes: an output, a cache, an attestation. A file writes it as an object or
// as text: "type=local,dest=out".
type Entry = buildspec.Entry

var entryType = cty.Map(cty.String)

// entryToCty is an entry as an expression of another target sees it.
func entryToCty(e Entry) cty.Value {
	m := map[string]cty.Value{}
	for k, v := range e.Map() {
		m[k] = cty.StringVal(v)
	}
	return cty.MapVal(m)
}

func entriesToCty(list []Entry) cty.Value {
	if len(list) == 0 {
		return cty.ListValEmpty(entryType)
	}
	var out []cty.Value
	for _, e := range list {
		out = append(out, entryToCty(e))
	}
	return cty.ListVal(out)
}

// parseEntries reads a list, whose elements are texts or objects; finish checks the objects.
func parseEntries(in cty.Value, p cty.Path, parse func(string) ([]Entry, error), finish func(*Entry) error) ([]Entry, error) {
	out := []Entry{}
	err := eachValue(in, p, cty.List(entryType), func(v cty.Value) error {
		if v.Type() == cty.String {
			got, err := parse(v.AsString())
			if err != nil {
				return p.NewError(err)
			}
			out = append(out, got...)
			return nil
		}
		e, err := entryFromObject(v)
		if err == nil {
			err = finish(&e)
		}
		if err != nil {
			return p.NewError(err)
		}
		out = append(out, e)
		return nil
	})
	return out, err
}

// eachValue visits the elements of a list that are not empty.
func eachValue(in cty.Value, p cty.Path, want cty.Type, visit func(cty.Value) error) error {
	if got := in.Type(); !got.IsTupleType() && !got.IsListType() {
		return p.NewErrorf("%s", convert.MismatchMessage(got, want))
	}
	if in.IsNull() || !in.IsKnown() {
		return nil
	}
	for it := in.ElementIterator(); it.Next(); {
		_, v := it.Element()
		if v.IsNull() || !v.IsKnown() || v.Type() == cty.String && v.AsString() == "" {
			continue
		}
		if err := visit(v); err != nil {
			return err
		}
	}
	return nil
}

func entryFromObject(v cty.Value) (Entry, error) {
	e := Entry{Attrs: map[string]string{}}
	conv, err := convert.Convert(v, entryType)
	if err != nil {
		return e, err
	}
	if !conv.IsKnown() {
		return e, nil
	}
	for k, v := range conv.AsValueMap() {
		switch {
		case v.IsNull() || !v.IsKnown():
		case k == "type":
			e.Type = v.AsString()
		default:
			e.Attrs[k] = v.AsString()
		}
	}
	return e, nil
}

// dropEqual keeps one of equal entries, in buildx's order.
func dropEqual(s []Entry) []Entry {
	if len(s) == 0 {
		return nil
	}
	s = slices.Clone(s)
	for i := len(s) - 2; i >= 0; i-- {
		for j := i + 1; j < len(s); j++ {
			if s[i].Equal(s[j]) {
				s[j] = s[len(s)-1]
				s = s[:len(s)-1]
				break
			}
		}
	}
	return s
}

// one makes a list of the one value that a text means.
func one[T any](v T, err error) ([]T, error) { return []T{v}, err }

// parseAll reads each text that is not empty.
func parseAll[T any](texts []string, parse func(string) ([]T, error)) ([]T, error) {
	out := make([]T, 0, len(texts))
	for _, s := range texts {
		if s == "" {
			continue
		}
		got, err := parse(s)
		if err != nil {
			return nil, err
		}
		out = append(out, got...)
	}
	return out, nil
}

// replaceByKey keeps one entry of each key: the last, at the place of the first.
func replaceByKey[T any](list []T, key func(T) string) []T {
	if len(list) == 0 {
		return nil
	}
	var out []T
	at := map[string]int{}
	for _, v := range list {
		if i, ok := at[key(v)]; ok {
			out[i] = v
			continue
		}
		at[key(v)] = len(out)
		out = append(out, v)
	}
	return out
}
