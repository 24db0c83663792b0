package containers

import (
	"fmt"
	"math/rand/v2"
	"regexp"
)

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// Containers without a name get one of these words each, as in Docker.
var (
	adjectives = [...]string{
		"agile", "amber", "bold", "brave", "bright", "calm", "clever", "crisp", "eager", "early", "fair", "fond", "frank", "gentle", "glad",
		"golden", "grand", "happy", "honest", "jolly", "keen", "kind", "lively", "lucid", "mellow", "merry", "modest", "neat", "noble", "patient",
		"polite", "proud", "quick", "quiet", "serene", "sharp", "silent", "sturdy", "tidy", "vivid", "warm", "wise",
	}
	minerals = [...]string{
		"agate", "apatite", "augite", "azurite", "barite", "basalt", "beryl", "biotite", "calcite", "chalk", "copper", "diorite", "dolomite",
		"feldspar", "flint", "fluorite", "gabbro", "galena", "garnet", "gneiss", "granite", "gypsum", "halite", "hematite", "jade", "jasper",
		"kyanite", "lapis", "malachite", "marble", "obsidian", "olivine", "onyx", "opal", "perlite", "pumice", "pyrite", "quartz", "rutile",
		"schist", "slate", "sodalite", "talc", "topaz", "zircon",
	}
)

// freeName returns a name that no container has. m.mu is held.
func (m *Manager) freeName() string {
	for n := 0; ; n++ {
		name := adjectives[rand.IntN(len(adjectives))] + "_" + minerals[rand.IntN(len(minerals))] //nolint:gosec // a name is no secret
		if n > 4 {
			name += fmt.Sprint(rand.IntN(10 * n)) //nolint:gosec // see above
		}
		if _, taken := m.names[name]; !taken {
			return name
		}
	}
}
