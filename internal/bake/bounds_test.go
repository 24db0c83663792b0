package bake

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

func TestEvaluationIsBounded(t *testing.T) {
	if err := bounded(func() error { return nil }); err != nil {
		t.Error(err)
	}
	if err := bounded(func() error { panic("a bug") }); err == nil || err.Error() != "internal error: a bug" {
		t.Error(err)
	}
	runtime.GC() // what other tests have left is not counted
	stop := make(chan struct{})
	err := bounded(func() error {
		var kept [][]byte // of which the kernel gives nothing until it is written to
		for range 20 {
			kept = append(kept, make([]byte, 100<<20))
		}
		<-stop
		runtime.KeepAlive(kept)
		return nil
	})
	close(stop)
	if err == nil || !strings.Contains(err.Error(), "more than 1024 MiB of memory") {
		t.Error(err)
	}
}

func TestAliasesOfAliases(t *testing.T) {
	aliases := "x-a: &a [l,l,l,l,l,l,l,l,l]\n"
	for c := 'b'; c < 'j'; c++ {
		aliases += fmt.Sprintf("x-%c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 9))
	}
	_, _, err := Parse([]File{{Name: "compose.yaml", Data: []byte(aliases + "services: {web: {build: .}}\n")}}, Options{})
	if err == nil || !strings.Contains(err.Error(), "excessive aliasing") {
		t.Error(err)
	}
}

// deep are files that are nested so that a parser or an evaluator that calls itself fills its stack.
func deep(n int) map[string]string {
	expression := func(open, inner, end string) string {
		return "target \"default\" {\n args = {\n A = " + strings.Repeat(open, n) + inner + strings.Repeat(end, n) + "\n }\n}\n"
	}
	return map[string]string{
		"lists.hcl": expression("[", "", "]"), "parentheses.hcl": expression("(", "1", ")"), "objects.hcl": expression("{a=", "1", "}"),
		"calls.hcl": expression("upper(", "1", ")"), "templates.hcl": expression(`"${`, "1", `}"`), "not.hcl": expression("!", "true", ""),
		"not over lines.hcl": expression("(!\n", "true", ")"), "minus.hcl": expression("- ", "1", ""), "sum.hcl": expression("1+", "1", ""),
		"sum over lines.hcl": expression("(1+\n", "1", ")"), "one sum over lines.hcl": strings.Replace(expression("1+\n", "1", ""), "A = ", "A = (", 1),
		"choice.hcl": expression("true?1:", "1", ""), "attributes.hcl": expression("", "v", ".a"), "elements.hcl": expression("", "v", "[0]"),
		"for.hcl": expression("[for x in ", "[1]", ": x]"), "directives.hcl": expression("", `"`, "%{if true}") + `"`,
		"blocks.hcl": strings.Repeat("a {\n", n) + strings.Repeat("}\n", n), "open.hcl": strings.Repeat("a = [", n),
		"lists.json":     `{"target":{"default":{"args":{"A":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}}}}`,
		"objects.json":   strings.Repeat(`{"target":`, n) + strings.Repeat("}", n),
		"templates.json": `{"target":{"default":{"args":{"A":"${` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}"}}}}`,
		"unnamed":        expression("[", "", "]"),
	}
}

func TestNestingIsBounded(t *testing.T) {
	for name, text := range deep(2 * maxNesting) {
		if _, _, err := Parse([]File{{name, []byte(text)}}, Options{}); err == nil || !strings.Contains(err.Error(), "nested deeper than 1000 levels") {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	// What is long is not deep.
	long := "variable \"v\" {\n default = \"x\"\n}\ntarget \"default\" {\n tags = [" + strings.Repeat("\"a:${v}-b\",", 2*maxNesting) + "]\n args = {\n" +
		strings.Repeat("  A = v == \"x\" ? \"${upper(v)}\" : \"]\"\n", 2*maxNesting) + " }\n dockerfile-inline = <<E\n" + strings.Repeat("RUN echo ${v}\n", 2*maxNesting) + "E\n}\n" + strings.Repeat("group \"g\" {\n targets = [\"default\"]\n}\n", 2*maxNesting)
	if _, err := parseHCL(File{"long.hcl", []byte(long)}); err != nil {
		t.Error(err)
	}
	json := `{"variable":{"v":{"default":"["}},"target":{"default":{"tags":[` + strings.Repeat(`"a:${v}-[{",`, 2*maxNesting) + `"b"]}}}`
	if _, err := parseHCL(File{"long.json", []byte(json)}); err != nil {
		t.Error(err)
	}
}
