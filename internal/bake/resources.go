package bake

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/micabuild/mica/internal/buildspec"
)

// Resources are limits of the steps of a target, by the names that --resource has: "memory", "cpu-quota".
type Resources struct{ limits map[string]string }

// resourceKinds are the names of limits; the value is true for numbers.
var resourceKinds = map[string]bool{
	"memory": false, "memory-swap": false, "cpu-shares": true, "cpu-period": true, "cpu-quota": true,
	"cpuset-cpus": false, "cpuset-mems": false,
}

func (r *Resources) set(name, value string) error {
	number, ok := resourceKinds[name]
	if !ok {
		return fmt.Errorf("unknown resources key %s", name)
	}
	if number {
		if _, err := strconv.ParseInt(value, 10, 64); err != nil {
			return fmt.Errorf("invalid value %s for int64 key resources.%s", value, name)
		}
	}
	if r.limits == nil {
		r.limits = map[string]string{}
	}
	r.limits[name] = value
	return nil
}

// merge returns r, overridden by other.
func (r *Resources) merge(other *Resources) *Resources {
	out := &Resources{limits: map[string]string{}}
	for _, from := range []*Resources{r, other} {
		if from != nil {
			maps.Copy(out.limits, from.limits)
		}
	}
	return out
}

// MarshalJSON writes numbers as numbers, in buildx's order.
func (r *Resources) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for _, k := range buildspec.LimitNames() {
		v, ok := r.limits[k]
		if !ok {
			continue
		}
		if !resourceKinds[k] {
			quoted, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			v = string(quoted)
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, strconv.Quote(k)+":"+v...)
	}
	return append(out, '}'), nil
}

func resourceType() cty.Type {
	attrs := map[string]cty.Type{}
	for k, number := range resourceKinds {
		attrs[k] = cty.String
		if number {
			attrs[k] = cty.Number
		}
	}
	return cty.ObjectWithOptionalAttrs(attrs, slices.Collect(maps.Keys(attrs)))
}

// FromCtyValue reads the value in a file (hclparser.FromCtyValueConverter).
func (r *Resources) FromCtyValue(in cty.Value, p cty.Path) error {
	conv, err := convert.Convert(in, resourceType())
	if err != nil {
		return p.NewError(err)
	}
	if conv.IsNull() || !conv.IsKnown() {
		return nil
	}
	for k := range resourceKinds {
		v := conv.GetAttr(k)
		if v.IsNull() || !v.IsKnown() {
			continue
		}
		if v, err = convert.Convert(v, cty.String); err != nil {
			return p.NewError(err)
		}
		if err := r.set(k, v.AsString()); err != nil {
			return p.NewError(err)
		}
	}
	return nil
}

// ToCtyValue is the value in expressions of other targets (hclparser.ToCtyValueConverter).
func (r *Resources) ToCtyValue() cty.Value {
	if r == nil {
		return cty.NullVal(resourceType())
	}
	out := map[string]cty.Value{}
	for k, number := range resourceKinds {
		v, ok := r.limits[k]
		switch {
		case number && ok:
			n, _ := strconv.ParseInt(v, 10, 64)
			out[k] = cty.NumberIntVal(n)
		case number:
			out[k] = cty.NullVal(cty.Number)
		case ok:
			out[k] = cty.StringVal(v)
		default:
			out[k] = cty.NullVal(cty.String)
		}
	}
	return cty.ObjectVal(out)
}
