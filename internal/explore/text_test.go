package explore

import (
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text    string
		columns int
		words   bool
		want    string // lines, between bars
	}{
		{"", 5, false, ""},
		{"abcde", 5, false, "abcde"},
		{"abcdef", 5, false, "abcde|f"},
		{"日本語", 4, false, "日本|語"},
		{"日本語", 5, false, "日本|語"},
		{"a日", 2, false, "a|日"},
		{"日本", 1, false, "日|本"},
		{"e\u0301e\u0301e", 2, false, "e\u0301e\u0301|e"},
		{"one two three", 9, true, "one two|three"},
		{"one two three", 7, true, "one two|three"},
		{"longlonglong x", 5, true, "longl|onglo|ng x"},
		{"x", 0, false, "x"},
	} {
		if got := strings.Join(split(c.text, c.columns, c.words), "|"); got != c.want {
			t.Errorf("%q in %d columns, words %v: %q, want %q", c.text, c.columns, c.words, got, c.want)
		}
	}
}

// TestCharactersHaveSubstitutes checks that terminals without UTF-8 get something for each character of the screen.
func TestCharactersHaveSubstitutes(t *testing.T) {
	t.Parallel()
	s := open(t, 120, 20, app()).press("down")
	for _, keys := range []string{"down", "tab ctrl-space", "?", "? ctrl-f"} {
		for _, r := range strings.NewReplacer("Größe", "").Replace(s.press(keys).text()) {
			if r >= 0x80 && len(ascii[r]) != 1 {
				t.Errorf("%q has the substitute %q", r, ascii[r])
			}
		}
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text    string
		columns int
		want    string
	}{
		{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "…cd"}, {"日本語", 5, "…本語"}, {"日本語", 4, "…語"}, {strings.Repeat("x", 999) + "y", 3, "…xy"}, {"ab", 1, "…"},
	} {
		if got := tail(c.text, c.columns); got != c.want {
			t.Errorf("the last %d columns of %q: %q, want %q", c.columns, c.text, got, c.want)
		}
	}
}

// TestLongLines checks that all of a long line can be read, and that Enter means the whole line.
func TestLongLines(t *testing.T) {
	t.Parallel()
	chosen := -1
	l := &lines{name: "x", text: []string{"first", strings.Repeat("a", 100) + strings.Repeat("b", 100) + "end", "third"}, at: list{at: 1}}
	l.enter = func(_ *Model, line int) bool { chosen = line; return true }
	s := open(t, 50, 8, app())
	s.model.overlay = l
	s.has(strings.Repeat("a", 50)+"\n"+strings.Repeat("a", 50)+"\n"+strings.Repeat("b", 50)+"\n", "end")
	if s.press("down down enter"); chosen != 1 {
		t.Errorf("line %d was chosen, want 1", chosen)
	}
	s.w = 30
	if s.text(); l.line() != 1 {
		t.Errorf("line %d is selected after the screen changed, want 1", l.line())
	}
	if s.press("end enter"); chosen != 2 {
		t.Errorf("line %d was chosen, want 2", chosen)
	}
}
