package docs

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli"
)

// TestFlagsExist: the commands and flags of mica that pages write exist.
func TestFlagsExist(t *testing.T) {
	root := cli.Command()
	root.InitDefaultCompletionCmd()
	found := 0
	for page, text := range pages(t) {
		for _, line := range commandLines(text) {
			found++
			for _, problem := range check(root, line) {
				t.Errorf("%s: mica %s: %s", page, strings.Join(line, " "), problem)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d commands were found in the pages", found)
	}
}

// TestCheckFindsMistakes: the check of a command line overlooks nothing.
func TestCheckFindsMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		want int
	}{
		{"mica build --tag x .", 0}, {"mica build --tags x .", 1}, {"mica build -t x -Z .", 1}, {"mica bild .", 1},
		{"mica run --rm x ls --all", 0}, {"mica serve -- make --all", 0}, {"mica serve --all -- make", 1}, {"mica run -v a:b:ro --rmx x", 1}, {"mica image rmm", 1}, {"mica COMMAND --help", 0},
		{"mica images --format '{{.ID}} --x'", 0}, {"mica tag a b; ls --x", 0}, {"x --y | mica load -i f --z", 1},
		{"sh 'a | mica load --z'", 1}, {"what mica does --z", 0},
	} {
		var problems []string
		for _, line := range commandLines("```\n" + tt.line + "\n```\n") {
			problems = append(problems, check(cli.Command(), line)...)
		}
		if len(problems) != tt.want {
			t.Errorf("%s: %d problems: %q, want %d", tt.line, len(problems), problems, tt.want)
		}
	}
}

var (
	fenced    = regexp.MustCompile("(?ms)^ *```[a-z]*\n(.*?)^ *```")
	indented  = regexp.MustCompile(`(?m)^    .*$`)
	inline    = regexp.MustCompile("`([^`\n]+)`")
	continued = regexp.MustCompile(`\\\n\s*`)
)

// commandLines returns the arguments of each mica in the code of a page.
func commandLines(text string) [][]string {
	var code []string
	for _, block := range fenced.FindAllStringSubmatch(text, -1) {
		code = append(code, strings.Split(continued.ReplaceAllString(block[1], " "), "\n")...)
	}
	text = fenced.ReplaceAllString(text, "")
	code = append(code, indented.FindAllString(text, -1)...)
	for _, span := range inline.FindAllStringSubmatch(text, -1) {
		code = append(code, span[1])
	}
	var lines [][]string
	for _, c := range code {
		lines = append(lines, commands(split(c))...)
	}
	return lines
}

// before are words that a command follows.
var before = []string{"$", ">", "-", "|", "||", "&&", ";", "sudo", "exec", "systemd-run", "run:", "sh"}

// commands returns the arguments of each mica among the words of a line.
func commands(words []string) [][]string {
	var lines [][]string
	for i, w := range words {
		if inner := split(w); len(inner) > 1 && i > 0 && words[i-1] == "sh" { // a command in quotes
			lines = append(lines, commands(inner)...)
		}
		if w != "mica" || i > 0 && !slices.Contains(before, words[i-1]) && !strings.Contains(words[i-1], "=") {
			continue
		}
		rest := words[i+1:]
		end := slices.IndexFunc(rest, func(w string) bool { return slices.Contains([]string{"|", "||", "&&", "&", ";", "#"}, w) })
		if end >= 0 {
			rest = rest[:end]
		}
		lines = append(lines, rest)
	}
	return lines
}

// split splits a line of shell into words. A semicolon is a word.
func split(line string) []string {
	var words []string
	for _, w := range regexp.MustCompile(`(?:[^\s"';]|"[^"]*"|'[^']*')+|;|["']`).FindAllString(line, -1) {
		words = append(words, strings.Trim(w, `"'`))
	}
	return words
}

// check returns what is wrong with the arguments of a mica.
func check(cmd *cobra.Command, words []string) []string {
	var problems []string
	arguments := 0
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "--" {
			return problems // the rest is another program's
		}
		if strings.HasPrefix(word, "-") && word != "-" {
			flag, inOne := lookUp(cmd, word)
			if flag == nil {
				problems = append(problems, word+" is not a flag of "+cmd.CommandPath())
			} else if !inOne && flag.NoOptDefVal == "" && len(words) > 0 {
				words = words[1:]
			}
			continue
		}
		if cmd.HasSubCommands() {
			sub := subcommand(cmd, word)
			if sub == nil && regexp.MustCompile(`^[a-z]+$`).MatchString(word) {
				return append(problems, word+" is not a command of "+cmd.CommandPath())
			} else if sub == nil {
				return problems
			}
			cmd = sub
			cmd.InitDefaultHelpFlag()
			continue
		}
		if arguments++; cmd.Name() == "run" {
			return problems // the rest is the container's
		}
	}
	return problems
}

func subcommand(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}

// lookUp finds the flag of a word, and whether the word holds the flag's value, too.
func lookUp(cmd *cobra.Command, word string) (flag *pflag.Flag, inOne bool) {
	cmd.InitDefaultHelpFlag()
	_ = cmd.InheritedFlags() // merges them into Flags
	if name, ok := strings.CutPrefix(word, "--"); ok {
		name, _, inOne = strings.Cut(name, "=")
		return cmd.Flags().Lookup(name), inOne
	}
	for i, letter := range word[1:] {
		if flag = cmd.Flags().ShorthandLookup(string(letter)); flag == nil {
			return nil, false
		}
		if flag.NoOptDefVal == "" {
			return flag, i+2 < len(word)
		}
	}
	return flag, true
}
