// Package docs tests that the documentation agrees with the code.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// top is the project's directory.
const top = ".."

// pages returns the text of each page, by its path below the project's directory.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(top, file)
			texts[name] = string(data)
		}
	}
	return texts
}

// sources calls visit for each Go file of mica that is not a test.
func sources(t *testing.T, visit func(*ast.File)) {
	t.Helper()
	for _, dir := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err == nil {
				visit(file)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// literals returns the string literals of mica's code. A sum of literals is one.
func literals(t *testing.T) []string {
	t.Helper()
	var all []string
	sources(t, func(file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			expr, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			text, ok := literal(expr)
			if ok {
				all = append(all, text)
			}
			return !ok
		})
	})
	return all
}

func literal(expr ast.Expr) (string, bool) {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			return text, err == nil
		}
	case *ast.BinaryExpr:
		left, ok := literal(e.X)
		right, also := literal(e.Y)
		return left + right, ok && also && e.Op == token.ADD
	}
	return "", false
}

// TestVariablesAreDocumented: configuration.md names every environment variable that mica reads.
func TestVariablesAreDocumented(t *testing.T) {
	page := pages(t)["docs/configuration.md"]
	variable := regexp.MustCompile(`^_?MICA_[A-Z_]+$|^BUILDX_[A-Z_]+$|^BUILDKIT_[A-Z_]+$`)
	names := slices.DeleteFunc(literals(t), func(s string) bool { return !variable.MatchString(s) })
	sources(t, func(file *ast.File) { names = append(names, variablesRead(file)...) })
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < 20 {
		t.Fatalf("only %d variables were found in the code: %v", len(names), names)
	}
	for _, name := range names {
		if !strings.Contains(page, "`"+name+"`") && !strings.Contains(page, "`$"+name+"`") {
			t.Errorf("%s is not in docs/configuration.md", name)
		}
	}
	for _, name := range regexp.MustCompile("MICA_[A-Z_]+").FindAllString(page, -1) {
		if !slices.Contains(names, name) && !slices.Contains(names, "_"+name) {
			t.Errorf("docs/configuration.md names %s, which the code does not", name)
		}
	}
}

// variablesRead returns the literal arguments of os.Getenv and os.LookupEnv.
func variablesRead(file *ast.File) []string {
	var names []string
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Getenv" && sel.Sel.Name != "LookupEnv" {
			return true
		}
		if name, ok := literal(call.Args[0]); ok {
			names = append(names, name)
		}
		return true
	})
	return names
}

// TestLinks: links between pages lead to files and headings that exist.
func TestLinks(t *testing.T) {
	texts := pages(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for page, text := range texts {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(filepath.Join(top, target)); err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(texts[target]), anchor) {
				t.Errorf("%s: link to %s: no such heading", page, m[1])
			}
		}
	}
}

// anchors returns the names by which GitHub links to the headings of a page.
func anchors(text string) []string {
	var names []string
	drop := regexp.MustCompile(`[^a-z0-9 _-]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		name := drop.ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// TestPathsExist: the files and directories of the project that pages name exist.
func TestPathsExist(t *testing.T) {
	path := regexp.MustCompile("`((?:internal|cmd|test|scripts|bench|docs|packaging)/[A-Za-z0-9_./-]*)`")
	for page, text := range pages(t) {
		for _, m := range path.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(top, m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// TestPackagesAreListed: design.md lists the packages of the project.
func TestPackagesAreListed(t *testing.T) {
	page := pages(t)["docs/design.md"]
	entries, err := os.ReadDir(filepath.Join(top, "internal"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^    internal/([a-z0-9]+) `).FindAllStringSubmatch(page, -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	if !slices.Equal(names, listed) {
		t.Errorf("docs/design.md lists the packages\n%v, internal has\n%v", listed, names)
	}
}

// TestDependenciesAreListed: dependencies.md lists the direct dependencies of go.mod.
func TestDependenciesAreListed(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(top, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var required []string
	for line := range strings.Lines(string(mod)) {
		if m := regexp.MustCompile(`^\t(\S+) v\S+$`).FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			required = append(required, strings.TrimPrefix(m[1], "github.com/"))
		}
	}
	var listed []string
	for line := range strings.Lines(pages(t)["docs/dependencies.md"]) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			for _, m := range regexp.MustCompile("`([^` ]+/[^` ]+)`").FindAllStringSubmatch(cells[1], -1) {
				listed = append(listed, m[1])
			}
		}
	}
	slices.Sort(required)
	slices.Sort(listed)
	if !slices.Equal(required, listed) {
		t.Errorf("docs/dependencies.md lists\n%v, go.mod requires\n%v", listed, required)
	}
}
