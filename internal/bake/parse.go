package bake

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/docker/buildx/bake/hclparser"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/micabuild/mica/internal/bake/compose"
)

// Variable is one that files define, with its value.
type Variable = hclparser.Variable

// Parse reads files into one configuration: compose files first, then the others, each laid over those before it.
func Parse(files []File, o Options) (*Config, []*Variable, error) {
	var c *Config
	var vars []*Variable
	err := bounded(func() (err error) {
		c, vars, err = parse(files, o)
		return err
	})
	if err != nil {
		return nil, nil, err // c and vars may still be written to
	}
	return c, vars, nil
}

func parse(files []File, o Options) (c *Config, vars []*Variable, err error) {
	// The evaluator is buildx's: a panic in it must not end mica.
	defer func() {
		if r := recover(); r != nil {
			c, vars, err = nil, nil, fmt.Errorf("bake file: the evaluator failed: %s", oneLine(fmt.Sprint(r)))
		}
	}()
	composed, others, err := sortFiles(files, o)
	if err != nil {
		return nil, nil, err
	}
	c = &Config{}
	if len(composed) > 0 {
		if err := c.readCompose(composed, o); err != nil {
			return nil, nil, fmt.Errorf("failed to parse compose file: %w", singleLine(err))
		}
		if o.FileRelative {
			c.setFileDirs(composed)
		}
	}
	if len(others) > 0 {
		if vars, err = c.evaluate(others, o); err != nil {
			return nil, nil, err
		}
	}
	c.Groups, c.Targets = dropGroups(c.Groups), mergeTargets(c.Targets)
	if o.FileRelative {
		c.rebase()
	}
	return c, vars, nil
}

// sortFiles separates compose files from HCL and JSON: by their names or, without an extension, by what parses.
func sortFiles(files []File, o Options) (composed []File, others []*hcl.File, err error) {
	for _, f := range files {
		isCompose, composeErr := o.compose().Check(composeFile(f))
		if isCompose {
			if composeErr != nil {
				return nil, nil, fmt.Errorf("%s: %w", f.Name, singleLine(composeErr))
			}
			composed = append(composed, f)
			continue
		}
		parsed, err := parseHCL(f)
		if err != nil && composeErr != nil {
			return nil, nil, fmt.Errorf("failed to parse %s: parsing yaml: %s, parsing hcl: %w", f.Name, oneLine(composeErr.Error()), err)
		}
		if err != nil {
			return nil, nil, err
		}
		others = append(others, parsed)
	}
	return composed, others, nil
}

// compose is the environment of compose files.
func (o *Options) compose() compose.Environment {
	return compose.Environment{Environ: o.Environ, Vars: o.Vars}
}

func composeFile(f File) compose.File { return compose.File{Filename: f.Name, Content: f.Data} }

// readCompose adds the services of compose files.
func (c *Config) readCompose(files []File, o Options) error {
	var list []compose.File
	for _, f := range files {
		list = append(list, composeFile(f))
	}
	services, err := o.compose().Services(list)
	if err != nil {
		return err
	}
	return c.setServices(services)
}

func parseHCL(f File) (*hcl.File, error) {
	switch {
	case strings.HasSuffix(f.Name, ".json"):
		return readJSON(f, f.Name)
	case strings.HasSuffix(f.Name, ".hcl"):
		return readHCL(f, f.Name)
	}
	parsed, err := readHCL(f, f.Name+".hcl")
	if err == nil {
		return parsed, nil
	}
	if parsed, other := readJSON(f, f.Name+".json"); other == nil {
		return parsed, nil
	}
	return nil, err
}

func readHCL(f File, name string) (*hcl.File, error) {
	if err := checkNesting(f); err != nil {
		return nil, err
	}
	parsed, diags := hclparse.NewParser().ParseHCL(f.Data, name)
	return parsed, hclError(diags)
}

func readJSON(f File, name string) (*hcl.File, error) {
	if err := checkNestingJSON(f); err != nil {
		return nil, err
	}
	parsed, diags := hclparse.NewParser().ParseJSON(f.Data, name)
	return parsed, hclError(diags)
}

// hclError is the first error of a list, in one line: "docker-bake.hcl:3,5-9: what; why".
func hclError(diags hcl.Diagnostics) error {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		text := oneLine(d.Summary)
		if d.Detail != "" {
			text += "; " + oneLine(d.Detail)
		}
		if d.Subject != nil {
			text = d.Subject.String() + ": " + text
		}
		return errors.New(text)
	}
	return nil
}

// singleLine puts the error of a library into one line.
func singleLine(err error) error {
	if !strings.Contains(err.Error(), "\n") {
		return err
	}
	return errors.New(oneLine(err.Error()))
}

// oneLine is a message in one line, without control characters.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Join(strings.Fields(s), " ")
}

var targetName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9_-]+$`) })

func checkName(name string) error {
	if !targetName().MatchString(name) {
		return fmt.Errorf("only %q are allowed", "[a-zA-Z0-9_-]+")
	}
	return nil
}

// evaluate adds the targets and groups of HCL and JSON files.
func (c *Config) evaluate(files []*hcl.File, o Options) ([]*Variable, error) {
	meta, diags := hclparser.Parse(hclparser.MergeFiles(files), hclparser.Opt{
		LookupVar: func(name string) (string, bool) {
			if v, ok := o.Vars[name]; ok {
				return v, true
			}
			return lookup(o.Env, name)
		},
		Vars:          o.Defaults,
		ValidateLabel: checkName,
	}, c)
	if err := hclError(diags); err != nil {
		return nil, err
	}
	// A block with a matrix gives a group of its own name.
	for _, renamed := range meta.Renamed {
		for _, name := range slices.Sorted(maps.Keys(renamed)) {
			cells := unique(renamed[name])
			if len(cells) != 1 || cells[0] != name {
				c.Groups = append(c.Groups, &Group{Name: name, Targets: cells})
			}
		}
	}
	return meta.AllVariables, nil
}

// unused lists the keys that no target or group can have, each once. The evaluator overlooks them.
func (c *Config) unused() []string {
	var all []string
	for _, t := range c.Targets {
		all = append(all, t.unused...)
	}
	for _, g := range c.Groups {
		all = append(all, g.unused...)
	}
	return unique(all)
}

// unusedKeys describes the attributes and blocks within a block that the type has no field for.
func unusedKeys(block *hcl.Block, of reflect.Type) []string {
	schema := &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "name"}, {Name: "matrix"}}}
	for i := range of.NumField() {
		if name, kind, _ := strings.Cut(of.Field(i).Tag.Get("hcl"), ","); name != "" && kind != "label" {
			schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: name})
		}
	}
	_, diags := block.Body.Content(schema)
	slices.SortFunc(diags, func(a, b *hcl.Diagnostic) int { return start(a) - start(b) })
	var keys []string
	for _, d := range diags {
		if err := hclError(hcl.Diagnostics{d}); err != nil {
			keys = append(keys, err.Error())
		}
	}
	return keys
}

func start(d *hcl.Diagnostic) int {
	if d.Subject == nil {
		return 0
	}
	return d.Subject.Start.Byte
}
