package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestUnit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, want string
		whole      bool
	}{
		{"TestIntegration", "", false},
		{"TestIntegration/TestUser", "", false},
		{"TestIntegration/TestUser/worker=oci", "", false},
		{"TestIntegration/TestUser/worker=mica", "TestIntegration/TestUser", true},
		{"TestIntegration/TestUser/worker=mica/frontend=builtin", "TestIntegration/TestUser", true},
		{"TestIntegration/TestDiff/worker=mica#01", "TestIntegration/TestDiff#01", true},
		{"TestIntegration/TestMode/worker=mica/secmode=insecure", "TestIntegration/TestMode/secmode=insecure", true},
		{"TestIntegration/TestForeign/worker=mica/propagate=1", "TestIntegration/TestForeign", false},
		{"TestIntegration/TestRun/worker=mica/frontend=client/network.host=denied/a", "TestIntegration/TestRun/network.host=denied", false},
	} {
		if got, whole := unit(test.name, "mica"); got != test.want || whole != test.whole {
			t.Errorf("unit(%s) = %q, %v, want %q, %v", test.name, got, whole, test.want, test.whole)
		}
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	const events = `{"Action":"run","Test":"TestIntegration"}
{"Action":"run","Test":"TestIntegration/TestA/worker=mica"}
{"Action":"run","Test":"TestIntegration/TestA/worker=mica/sub"}
{"Action":"skip","Test":"TestIntegration/TestA/worker=mica/sub"}
{"Action":"pass","Test":"TestIntegration/TestA/worker=mica"}
{"Action":"run","Test":"TestIntegration/TestB/worker=mica"}
{"Action":"output","Test":"TestIntegration/TestB/worker=mica","Output":"B"}
{"Action":"fail","Test":"TestIntegration/TestB/worker=mica"}
{"Action":"run","Test":"TestIntegration/TestC/worker=mica"}
{"Action":"run","Test":"TestIntegration/TestC/worker=mica/sub"}
{"Action":"pass","Test":"TestIntegration/TestC/worker=mica/sub"}
{"Action":"run","Test":"TestIntegration/TestD/worker=mica"}
{"Action":"skip","Test":"TestIntegration/TestD/worker=mica"}
{"Action":"fail","Test":"TestIntegration"}
`
	got, err := outcomes(strings.NewReader(events), "mica")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]outcome{
		"TestIntegration/TestA": passed, "TestIntegration/TestB": failed, "TestIntegration/TestC": unfinished, "TestIntegration/TestD": skipped,
	}
	if !maps.Equal(got.outcome, want) {
		t.Errorf("got %v, want %v", got.outcome, want)
	}
	if len(got.output) != 1 || !slices.Equal(got.output["TestIntegration/TestB"], []string{"B"}) {
		t.Errorf("output of what did not pass: %q", got.output)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	k := &known{
		mica:      map[string]string{"client A": "r", "dockerfile B": "r", "dockerfile/client C": "r"},
		buildkitd: map[string]string{"dockerfile D": "r"},
	}
	for _, test := range []struct {
		suite, worker, name string
		result              outcome
		unknown, strike     bool
	}{
		{"client", "mica", "A", failed, false, false},
		{"client", "mica", "A", unfinished, false, false},
		{"client", "mica", "A", passed, false, true},
		{"client", "mica", "A", skipped, false, false},
		{"client", "mica", "B", failed, true, false},
		{"client", "oci", "A", failed, true, false},
		{"client", "oci", "A", passed, false, false},
		{"dockerfile/builtin", "mica", "B", failed, false, false},
		{"dockerfile/builtin", "mica", "C", failed, true, false},
		{"dockerfile/client", "mica", "C", failed, false, false},
		{"dockerfile/client", "mica", "D", failed, false, false},
		{"dockerfile/client", "mica", "D", passed, false, false},
		{"dockerfile/client", "oci", "D", failed, false, false},
		{"dockerfile/client", "oci", "D", passed, false, true},
	} {
		r := compare(test.suite, test.worker, &results{outcome: map[string]outcome{test.name: test.result}}, k)
		if slices.Contains(r.unknown, test.name) != test.unknown || slices.Contains(r.strike, test.name) != test.strike {
			t.Errorf("%+v: unknown %v, strike %v", test, r.unknown, r.strike)
		}
		if r.failed() != (test.unknown || test.strike) {
			t.Errorf("%+v: failed %v", test, r.failed())
		}
	}
}

func TestReadList(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want map[string]string
		fail bool
	}{
		{text: "# of people\n\nclient T/A: no: net\n", want: map[string]string{"client T/A": "no: net"}},
		{text: "client T/A\n", fail: true},
		{text: "T/A: reason\n", fail: true},
		{text: "client T/A: \n", fail: true},
		{text: "client T/A: a\nclient T/A: b\n", fail: true},
	} {
		path := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readList(path)
		if (err != nil) != test.fail || !maps.Equal(got, test.want) {
			t.Errorf("%q: %v, %v", test.text, got, err)
		}
	}
}

// The lists in the repository can be read, and no test is in both.
func TestLists(t *testing.T) {
	t.Parallel()
	k, err := readKnown("mica.txt", "buildkitd.txt")
	if err != nil {
		t.Fatal(err)
	}
	for name := range k.mica {
		suite, test, _ := strings.Cut(name, " ")
		if _, both := reason(k.buildkitd, suite, test); both {
			t.Errorf("%s is in both lists", name)
		}
	}
}

func TestPart(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want string
		fail bool
	}{
		{text: "# of people\n\nclient TestA\nclient TestB2\n", want: "^(TestA|TestB2)(#[0-9]+)?$"},
		{text: "client\n", fail: true},
		{text: "server TestA\n", fail: true},
		{text: "client TestA\nclient TestA\n", fail: true},
	} {
		path := filepath.Join(t.TempDir(), "part")
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := readPart(path)
		if (err != nil) != test.fail {
			t.Errorf("%q: %v", test.text, err)
		}
		if err == nil && p.pattern("client") != test.want {
			t.Errorf("%q: %s, want %s", test.text, p.pattern("client"), test.want)
		}
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	p := part{"client": {"TestA", "TestA1", "TestB", "TestC", "TestD"}}
	got := p.missing("client", &results{outcome: map[string]outcome{
		"TestIntegration/TestA#01": passed, "TestIntegration/TestB/netmode=host": failed, "TestIntegration/TestC": skipped, "TestIntegration/TestD": unfinished,
	}})
	if want := []string{"TestA1", "TestC"}; !slices.Equal(got, want) {
		t.Errorf("missing %q, want %q", got, want)
	}
}
