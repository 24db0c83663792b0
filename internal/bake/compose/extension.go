package compose

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Extension is x-bake: the options for which compose files have no key
// (docs.docker.com/build/bake/compose-file/#extension-field-with-x-bake).
type Extension struct {
	Tags          List              `yaml:"tags,omitempty"`
	CacheFrom     List              `yaml:"cache-from,omitempty"`
	CacheTo       List              `yaml:"cache-to,omitempty"`
	Secrets       List              `yaml:"secret,omitempty"`
	SSH           List              `yaml:"ssh,omitempty"`
	Platforms     List              `yaml:"platforms,omitempty"`
	Outputs       List              `yaml:"output,omitempty"`
	Pull          *bool             `yaml:"pull,omitempty"`
	NoCache       *bool             `yaml:"no-cache,omitempty"`
	NoCacheFilter List              `yaml:"no-cache-filter,omitempty"`
	Contexts      map[string]string `yaml:"contexts,omitempty"`
}

// List is a list, or its elements in one text with spaces between them.
type List []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *List) UnmarshalYAML(n *yaml.Node) error {
	var several []string
	if err := n.Decode(&several); err == nil {
		*l = several
		return nil
	}
	var one string
	if err := n.Decode(&one); err != nil {
		return err
	}
	*l = strings.Fields(one)
	return nil
}

// read takes the extension from the value that compose-go parsed.
func (x *Extension) read(value any) error {
	if value == nil {
		return nil
	}
	data, err := yaml.Marshal(value)
	if err == nil {
		err = yaml.Unmarshal(data, x)
	}
	if err != nil {
		return fmt.Errorf("x-bake: %w", err)
	}
	return nil
}
