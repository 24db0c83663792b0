package containers

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Limits of names, in bytes. As in Docker, those of containers have none.
const (
	maxVolumeName  = 200
	maxNetworkName = 200
	maxAlias       = 253 // of a name of a host
)

// validName reports whether a name has Docker's grammar, which keeps it apart from paths and from modes such as container:ID: letters and
// digits, and after the first of them also "_", "." and "-".
func validName(name string) bool {
	return name != "" && !strings.ContainsRune(separators, rune(name[0])) && validAlias(name)
}

// validAlias reports whether a name may be in a line of hosts(5).
func validAlias(name string) bool {
	if name == "" || name[0] == '.' || name[0] == '-' {
		return false
	}
	for _, c := range []byte(name) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && !strings.ContainsRune(separators, rune(c)) {
			return false
		}
	}
	return true
}

const separators = "_.-"

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
