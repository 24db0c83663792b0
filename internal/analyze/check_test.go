package analyze

import (
	"fmt"
	"strings"
	"testing"
)

// TestLimits: what each limit says of an image of 20 MB, 5 MB of them wasted.
func TestLimits(t *testing.T) {
	t.Parallel()
	r := &Report{Size: 20e6, Efficiency: 0.95, Wasted: Total{Bytes: 5e6}, Findings: []Finding{{Kind: KindCache}}}
	for _, test := range []struct {
		parse func(string) (Limit, error)
		text  string
		want  string
	}{
		{MaxWasted, "5MB", "5MB true"},
		{MaxWasted, "4.9MB", "5MB false"},
		{MaxWasted, "4.9MiB", "5MB true"},
		{MaxWasted, "5000000", "5MB true"},
		{MaxWasted, "", "error"},
		{MaxWasted, "-1", "error"},
		{MaxWasted, "much", "error"},
		{MaxSize, "20mb", "20MB true"},
		{MaxSize, "19 MB", "20MB false"},
		{MaxSize, "19999999", "20000000B false"},
		{MaxSize, "1e9GB", "20MB true"},
		{MaxSize, "1e99GB", "error"},
		{MaxSize, "101%", "error"},
		{MinEfficiency, "95.0001%", "95 % false"},
		{MinEfficiency, "101%", "error"},
		{MinEfficiency, "-0.1", "error"},
		{MinEfficiency, "inf", "error"},
		{MinEfficiency, "0.95", "95.00 % true"},
		{MinEfficiency, "96%", "95.00 % false"},
		{MinEfficiency, "95 %", "95.00 % true"},
		{MinEfficiency, "95", "error"},
		{MinEfficiency, "NaN", "error"},
		{FailOn, "cache", "1 false"},
		{FailOn, "secret", "0 true"},
		{FailOn, "caches", "error"},
	} {
		got := "error"
		if l, err := test.parse(test.text); err == nil {
			r.Checks = nil
			pass := r.Check([]Limit{l})
			got = fmt.Sprintf("%s %t", r.Checks[0].Value, r.Checks[0].Pass)
			if pass != r.Checks[0].Pass {
				t.Errorf("%q: the report passes: %t", test.text, pass)
			}
		}
		if got != test.want {
			t.Errorf("%q: %s, want %s", test.text, got, test.want)
		}
	}
}

// TestDiveRules: the rules of dive's file, its defaults, and the values that turn a rule off.
func TestDiveRules(t *testing.T) {
	t.Parallel()
	r := &Report{Dive: Dive{Efficiency: 0.85, InefficientBytes: 5e6, UserWastedPercent: 0.2}}
	for _, test := range []struct{ file, want string }{
		{"", "lowestEfficiency 0.9 false, highestUserWastedPercent 0.1 false"},
		{"rules:\n  lowestEfficiency: 0.8\n", "lowestEfficiency 0.8 true, highestUserWastedPercent 0.1 false"},
		{"rules:\n  lowest-efficiency: 85%\n  highest-wasted-bytes: 5MB\n  highest-user-wasted-percent: 0.2", "lowestEfficiency 85% true, highestWastedBytes 5MB true, highestUserWastedPercent 0.2 true"},
		{"rules: {lowestEfficiency: disabled, highestWastedBytes: 4.9MB, highestUserWastedPercent: \"off\"}", "highestWastedBytes 4.9MB false"},
		{"rules: {lowestEfficiency: \"\", highestWastedBytes: \"4,900,000\", highestUserWastedPercent: ~}", "highestWastedBytes 4,900,000 false, highestUserWastedPercent 0.1 false"},
		{"rules: {lowestEfficiency: off, highestWastedBytes: 5Mi, highestUserWastedPercent: false}", "highestWastedBytes 5Mi true"},
		{"rules: {lowestEfficiency: 2}", "error"},
		{"rules: {highestWastedBytes: -1}", "error"},
		{"rules: {}\n" + strings.Repeat("#", maxRules), "error"},
		{"rules: {lowestEfficiency: {a: 1}}", "error"},
		{"rules: {highestWastedBytes: many}", "error"},
		{"rules: [1]", "error"},
		{"a: b: c", "error"},
		{"other: 1", "lowestEfficiency 0.9 false, highestUserWastedPercent 0.1 false"},
	} {
		got := "error"
		limits, err := DiveRules(strings.NewReader(test.file))
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: an error of several lines: %v", test.file, err)
		}
		if err == nil {
			r.Checks = nil
			r.Check(limits)
			var list []string
			for _, c := range r.Checks {
				list = append(list, fmt.Sprintf("%s %s %t", c.Name, c.Limit, c.Pass))
			}
			got = strings.Join(list, ", ")
		}
		if got != test.want {
			t.Errorf("%q: %s, want %s", test.file, got, test.want)
		}
	}
}
