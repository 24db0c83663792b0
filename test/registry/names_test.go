//go:build e2e

package registry

import (
	"strings"
	"testing"
)

// Names as long as registries and the grammar of references take them are pushed, pulled, listed and removed.
func TestLongNames(t *testing.T) {
	at := open(t)
	c := newClient(t)
	c.build("text", "app")
	for _, repository := range []string{strings.Repeat("r", 162), strings.TrimSuffix(strings.Repeat("a/", 60), "/"), strings.Repeat("b", 230)} {
		name := at + "/" + repository + ":" + strings.Repeat("t", 100)
		c.Run("tag", "app", name)
		c.Run("push", "-q", name)
		c.Run("rmi", name)
		c.Run("pull", "-q", name)
		if got := c.Run("images", "--format", "{{.Repository}}:{{.Tag}}", name); got != name+"\n" {
			t.Errorf("listed as %q", got)
		}
		c.content(name, "made")
		c.Run("manifest", "create", name+"x", name)
		c.Run("rmi", name)
	}
}
