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
var writing = []string{"root", "output", "metadata-file", "iidfile", "cidfile", "cache-to", "volume", "env-file", "label-file", "cgroup-parent"}

// oddValues are what no flag and no argument expects.
var oddValues = []string{"", "=", ":", ",", "-1", "a=b=c", "99999999999999999999", "\xff\xfe", "../..", strings.Repeat("x", 5000)}

// flagCommands are commands with arguments that they take. "image ls" and the like are others under a second name.
func flagCommands(dir string) [][]string {
	return [][]string{
		{"build", dir}, {"bake"}, {"images"}, {"history", "base"}, {"inspect", "base"}, {"image", "inspect", "base"}, {"run", "base", "true"}, {"save", "base"},
		{"load"}, {"import", "-"}, {"export", "base"}, {"tag", "base", "x"}, {"rmi", "nothing"}, {"image", "prune", "-f"}, {"builder", "prune", "-f"}, {"system", "df"},
		{"version"}, {"info"}, {"manifest", "create", "localhost:1/x", "localhost:1/y"}, {"manifest", "annotate", "localhost:1/x", "localhost:1/y"},
		{"manifest", "inspect", "localhost:1/x"}, {"manifest", "push", "localhost:1/x"}, {"manifest", "rm", "localhost:1/x"}, {"pull", "localhost:1/x"},
		{"push", "localhost:1/x"}, {"copy", "localhost:1/x", "localhost:1/y"}, {"login", "localhost:1"}, {"logout", "localhost:1"},
		{"tags", "localhost:1/x"}, {"catalog", "localhost:1"},
		{"builds", "ls"}, {"builds", "inspect", "^0"}, {"builds", "logs", "^0"}, {"builds", "trace", "^0"}, {"builds", "export", "^0"}, {"builds", "rm", "nothing"}, {"why", "^0", "RUN"},
		{"ui", "--listen", "nowhere"}, {"serve", "--addr", "nowhere"}, {"analyze", "base"}, {"explore", "base"}, {"sbom", "base"}, {"diff", "base", "base"},
	}
}

// verbOf is the part of a command line that is the command.
func verbOf(command []string) []string {
	if slices.Contains([]string{"image", "builder", "system", "manifest", "container", "builds"}, command[0]) {
		return command[:2]
	}
	return command[:1]
}

// Whatever a flag or an argument is, mica answers in a line or works: it never ends with a panic.
func TestOddFlagValues(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": "FROM base\n", "docker-bake.hcl": "target \"default\" {}\n"})
	config := rig.TempDir(t)
	try := func(args ...string) {
		t.Helper()
		cmd := m.Command(args...)
		cmd.Dir, cmd.Env = dir, append(cmd.Environ(), "DOCKER_CONFIG="+config)
		out := rig.Run(t, cmd)
		if strings.Contains(out.Stderr, "panic") || strings.Contains(out.Stderr, "goroutine ") || strings.Contains(out.Stderr, "internal error") || out.Code != 0 && out.Stderr == "" {
			t.Errorf("%.200q: exit code %d\n%.2000s", args, out.Code, out.Stderr)
		}
	}
	for _, command := range flagCommands(dir) {
		verb := verbOf(command)
		rest := command[len(verb):]
		help := m.Run(append(slices.Clone(verb), "--help")...)
		for _, found := range flagPattern.FindAllStringSubmatch(help, -1) {
			if slices.Contains(writing, found[1]) {
				continue
			}
			for _, value := range oddValues {
				try(append(append(slices.Clone(verb), "--"+found[1]+"="+value), rest...)...)
			}
		}
		for i, was := range rest {
			// Contexts and files of the host are no odd arguments, and copy writes where it is told to.
			if was == dir || strings.HasPrefix(was, "-") || verb[0] == "copy" {
				continue
			}
			for _, value := range oddValues {
				args := slices.Clone(command)
				args[len(verb)+i] = value
				try(args...)
			}
		}
	}
}

// subcommand finds a command in a list of them in a help text.
var subcommand = regexp.MustCompile(`(?m)^  ([a-z]+)  +[A-Z]`)

// TestFlagCommands: no command is left out above.
func TestFlagCommands(t *testing.T) {
	m := rig.NewMica(t)
	known := []string{"image ls", "image rm"}
	for _, c := range flagCommands("") {
		verb := strings.Join(verbOf(c), " ")
		known = append(known, verb, "image "+verb, "builder "+verb, "system "+verb, "container "+verb)
	}
	var walk func(verb []string)
	walk = func(verb []string) {
		found := subcommand.FindAllStringSubmatch(m.Run(append(slices.Clone(verb), "--help")...), -1)
		for _, sub := range found {
			walk(append(slices.Clone(verb), sub[1]))
		}
		if name := strings.Join(verb, " "); len(found) == 0 && !slices.Contains(known, name) && verb[0] != "completion" {
			t.Errorf("%s is not among the commands", name)
		}
	}
	walk(nil)
}
