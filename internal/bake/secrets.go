package bake

import (
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/micabuild/mica/internal/buildspec"
)

// Secrets are those that the steps of a target may read.
type Secrets []Secret

// Secret is a file or an environment variable of the host.
type Secret = buildspec.Secret

func parseSecret(text string) ([]Secret, error) { return one(buildspec.ParseSecret(text)) }

func (s Secrets) normal() Secrets {
	return replaceByKey(s, func(s Secret) string { return s.ID })
}

var secretType = cty.ObjectWithOptionalAttrs(
	map[string]cty.Type{"id": cty.String, "src": cty.String, "env": cty.String}, []string{"id", "src", "env"})

// FromCtyValue reads the value in a file (hclparser.FromCtyValueConverter).
func (s *Secrets) FromCtyValue(in cty.Value, p cty.Path) error {
	*s = Secrets{}
	return eachValue(in, p, cty.List(secretType), func(v cty.Value) error {
		if v.Type() == cty.String {
			got, err := parseSecret(v.AsString())
			if err != nil {
				return p.NewError(err)
			}
			*s = append(*s, got...)
			return nil
		}
		conv, err := convert.Convert(v, secretType)
		if err != nil {
			return err
		}
		*s = append(*s, Secret{ID: text(conv, "id"), Src: text(conv, "src"), Env: text(conv, "env")})
		return nil
	})
}

// text is an attribute of an object that is a string, "" if it is missing.
func text(object cty.Value, name string) string {
	v := object.GetAttr(name)
	if v.IsNull() || !v.IsKnown() {
		return ""
	}
	return v.AsString()
}

// ToCtyValue is the value in expressions of other targets (hclparser.ToCtyValueConverter).
func (s Secrets) ToCtyValue() cty.Value {
	if len(s) == 0 {
		return cty.ListValEmpty(secretType)
	}
	var out []cty.Value
	for _, one := range s {
		out = append(out, cty.ObjectVal(map[string]cty.Value{
			"id": cty.StringVal(one.ID), "src": cty.StringVal(one.Src), "env": cty.StringVal(one.Env),
		}))
	}
	return cty.ListVal(out)
}

// SSHKeys are the agents, and keys, that the steps of a target may use.
type SSHKeys []SSH

// SSH is an agent, made of keys where it has paths.
type SSH struct {
	ID    string   `json:"id,omitempty"`
	Paths []string `json:"paths,omitempty"`
}

func parseSSH(text string) ([]SSH, error) {
	id, paths, ok := strings.Cut(text, "=")
	s := SSH{ID: id}
	if ok {
		s.Paths = strings.Split(paths, ",")
	}
	return []SSH{s}, nil
}

func (s SSHKeys) normal() SSHKeys {
	return replaceByKey(s, func(s SSH) string { return s.ID })
}

var sshType = cty.ObjectWithOptionalAttrs(
	map[string]cty.Type{"id": cty.String, "paths": cty.List(cty.String)}, []string{"id", "paths"})

// FromCtyValue reads the value in a file (hclparser.FromCtyValueConverter).
func (s *SSHKeys) FromCtyValue(in cty.Value, p cty.Path) error {
	*s = SSHKeys{}
	return eachValue(in, p, cty.List(sshType), func(v cty.Value) error {
		if v.Type() == cty.String {
			got, err := parseSSH(v.AsString())
			*s = append(*s, got...)
			return err
		}
		conv, err := convert.Convert(v, sshType)
		if err != nil {
			return err
		}
		key := SSH{ID: text(conv, "id")}
		if paths := conv.GetAttr("paths"); !paths.IsNull() && paths.IsKnown() {
			for _, p := range paths.AsValueSlice() {
				if !p.IsNull() && p.IsKnown() {
					key.Paths = append(key.Paths, p.AsString())
				}
			}
		}
		*s = append(*s, key)
		return nil
	})
}

// ToCtyValue is the value in expressions of other targets (hclparser.ToCtyValueConverter).
func (s SSHKeys) ToCtyValue() cty.Value {
	if len(s) == 0 {
		return cty.ListValEmpty(sshType)
	}
	var out []cty.Value
	for _, one := range s {
		paths := cty.ListValEmpty(cty.String)
		if len(one.Paths) > 0 {
			var list []cty.Value
			for _, p := range one.Paths {
				list = append(list, cty.StringVal(p))
			}
			paths = cty.ListVal(list)
		}
		out = append(out, cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal(one.ID), "paths": paths}))
	}
	return cty.ListVal(out)
}
