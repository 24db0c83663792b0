package bake

import (
	"errors"
	"maps"
	"slices"

	"github.com/docker/buildx/bake/hclparser"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

var (
	_ hclparser.WithEvalContexts = &Target{}
	_ hclparser.WithGetName      = &Target{}
	_ hclparser.WithBlockSource  = &Target{}
	_ hclparser.WithEvalContexts = &Group{}
	_ hclparser.WithGetName      = &Group{}
)

// loadDeps evaluates the variables that an expression uses.
type loadDeps = func(hcl.Expression) hcl.Diagnostics

// attributes are those of a block that are read before the others.
func attributes(block *hcl.Block, names ...string) (hcl.Attributes, error) {
	schema := &hcl.BodySchema{}
	for _, n := range names {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: n})
	}
	content, _, diags := block.Body.PartialContent(schema)
	if diags.HasErrors() {
		return nil, diags
	}
	return content.Attributes, nil
}

// GetEvalContexts gives a target one context for each cell of its matrix.
func (t *Target) GetEvalContexts(base *hcl.EvalContext, block *hcl.Block, load func(hcl.Expression) hcl.Diagnostics) ([]*hcl.EvalContext, error) {
	attrs, err := attributes(block, "matrix")
	if err != nil {
		return nil, err
	}
	attr, ok := attrs["matrix"]
	if !ok {
		return []*hcl.EvalContext{base}, nil
	}
	value, err := evaluate(attr, base, load)
	if err != nil {
		return nil, err
	}
	if value.IsNull() || !value.IsKnown() || !value.Type().IsMapType() && !value.Type().IsObjectType() {
		return nil, errors.New("matrix must be a map")
	}
	axes := value.AsValueMap()
	cells := []map[string]cty.Value{{}}
	for _, name := range slices.Sorted(maps.Keys(axes)) {
		if axes[name].IsNull() || !axes[name].CanIterateElements() {
			return nil, errors.New("matrix values must be a list")
		}
		cells = multiply(cells, name, axes[name].AsValueSlice())
	}
	var contexts []*hcl.EvalContext
	for _, cell := range cells {
		c := base.NewChild()
		c.Variables = cell
		contexts = append(contexts, c)
	}
	return contexts, nil
}

// multiply is every cell with every value of one more axis.
func multiply(cells []map[string]cty.Value, name string, values []cty.Value) []map[string]cty.Value {
	var out []map[string]cty.Value
	for _, v := range values {
		for _, cell := range cells {
			c := maps.Clone(cell)
			c[name] = v
			out = append(out, c)
		}
	}
	return out
}

func evaluate(attr *hcl.Attribute, in *hcl.EvalContext, load loadDeps) (cty.Value, error) {
	if diags := load(attr.Expr); diags.HasErrors() {
		return cty.NilVal, diags
	}
	value, diags := attr.Expr.Value(in)
	if diags.HasErrors() {
		return cty.NilVal, diags
	}
	return value, nil
}

// GetName is the name of a target: its label or, for a cell of a matrix, its attribute name.
func (t *Target) GetName(in *hcl.EvalContext, block *hcl.Block, load func(hcl.Expression) hcl.Diagnostics) (string, error) {
	attrs, err := attributes(block, "name", "matrix")
	if err != nil {
		return "", err
	}
	attr, ok := attrs["name"]
	if !ok {
		return block.Labels[0], nil
	}
	if _, ok := attrs["matrix"]; !ok {
		return "", errors.New("name requires matrix")
	}
	value, err := evaluate(attr, in, load)
	if err != nil {
		return "", err
	}
	if value, err = convert.Convert(value, cty.String); err != nil {
		return "", err
	}
	if value.IsNull() || !value.IsKnown() {
		return "", errors.New("name must be a string")
	}
	return value.AsString(), nil
}

// GetEvalContexts of a group returns the surrounding context.
func (g *Group) GetEvalContexts(base *hcl.EvalContext, block *hcl.Block, _ func(hcl.Expression) hcl.Diagnostics) ([]*hcl.EvalContext, error) {
	attrs, err := attributes(block, "matrix")
	if err != nil {
		return nil, err
	}
	if _, ok := attrs["matrix"]; ok {
		return nil, errors.New("matrix is not supported for groups")
	}
	return []*hcl.EvalContext{base}, nil
}

// GetName of a group is its label.
func (g *Group) GetName(_ *hcl.EvalContext, block *hcl.Block, _ func(hcl.Expression) hcl.Diagnostics) (string, error) {
	attrs, err := attributes(block, "name", "matrix")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"name", "matrix"} {
		if _, ok := attrs[name]; ok {
			return "", errors.New(name + " is not supported for groups")
		}
	}
	return block.Labels[0], nil
}
