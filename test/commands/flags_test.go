//go:build e2e

package commands

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// flagPattern finds the flags that take a value in a command's help: "  -f, --file string   …".
var flagPattern = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+) [a-z]`)

// writing are flags that name what a command writes or where it keeps everything: they get no odd values on a real host.
var writing = []string{"root", "output", "metadata-file", "iidfile", "cidfile", "cache-to", "volume", "env-file", "label-file"}

// Whatever a flag is given, mica answers in a line or works: it never ends with a panic.
func TestOddFlagValues(t *testing.T) {
	m := newMica(t)
	dir := folder(t, map[string]string{"Dockerfile": "FROM base\n", "docker-bake.hcl": "target \"default\" {}\n"})
	values := []string{"", "=", ":", ",", "-1", "a=b=c", "99999999999999999999", "\xff\xfe", "../..", strings.Repeat("x", 5000)}
	for _, command := range [][]string{
		{"build", dir}, {"bake"}, {"images"}, {"history", "base"}, {"inspect", "base"}, {"image", "inspect", "base"}, {"run", "base", "true"}, {"save", "base"},
		{"load"}, {"import", "-"}, {"tag", "base", "x"}, {"rmi", "nothing"}, {"image", "prune", "-f"}, {"builder", "prune", "-f"}, {"system", "df"},
		{"version"}, {"info"}, {"manifest", "create", "localhost:1/x", "localhost:1/y"}, {"pull", "localhost:1/x"}, {"push", "localhost:1/x"},
	} {
		verb := command
		if i := slices.IndexFunc(command, func(a string) bool {
			return strings.HasPrefix(a, "-") || a == "base" || a == dir || strings.Contains(a, "/")
		}); i > 0 {
			verb = command[:i]
		}
		if verb[len(verb)-1] == "nothing" || verb[0] == "tag" {
			verb = verb[:1]
		}
		help := m.Run(append(slices.Clone(verb), "--help")...)
		for _, found := range flagPattern.FindAllStringSubmatch(help, -1) {
			if slices.Contains(writing, found[1]) {
				continue
			}
			for _, value := range values {
				args := append(append(slices.Clone(verb), "--"+found[1]+"="+value), command[len(verb):]...)
				cmd := m.Command(args...)
				cmd.Dir = dir
				out := rig.Run(t, cmd)
				if strings.Contains(out.Stderr, "panic") || strings.Contains(out.Stderr, "goroutine ") || out.Code != 0 && out.Stderr == "" {
					t.Errorf("%.200q: exit code %d\n%.2000s", args, out.Code, out.Stderr)
				}
			}
		}
	}
}
