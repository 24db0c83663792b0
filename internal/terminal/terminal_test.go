package terminal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "",
		"plain\ttext\n":              "plain\ttext\n",
		"été 日本 👩‍🚀":                 "été 日本 👩‍🚀",
		"\x1b]0;title\x07":           `\x1b]0;title\x07`,
		"\x1b[2J\x1b[1;31mred":       `\x1b[2J\x1b[1;31mred`,
		"over\rwritten":              `over\x0dwritten`,
		"back\b\x7f":                 `back\x08\x7f`,
		"\u009b31m":                  `\u009b31m`,
		"raw C1 \x9b31m":             `raw C1 \x9b31m`,
		"abc\u202egpj.exe\u2066x":    `abc\u202egpj.exe\u2066x`,
		"line\u2028break\x85":        `line\u2028break\x85`,
		"paragraph\u2029break":       `paragraph\u2029break`,
		"zero\u200bwidth":            `zero\u200bwidth`,
		"a mark\ufeff":               `a mark\ufeff`,
		"word\u2060joiner":           `word\u2060joiner`,
		"soft\u00adhyphen":           `soft\u00adhyphen`,
		"a tag \U000e0041":           `a tag \U000e0041`,
		"می\u200cخواهم":              "می\u200cخواهم", // the non-joiner of Persian
		"a replacement \ufffd stays": "a replacement \ufffd stays",
		"NUL\x00":                    `NUL\x00`,
		"cut \xe6\x97":               `cut \xe6\x97`,
		"overlong \xc0\x9b":          `overlong \xc0\x9b`,
		"a surrogate \xed\xa0\x80":   `a surrogate \xed\xa0\x80`,
	} {
		if got := EscapeString(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestEscapeLog(t *testing.T) {
	for text, want := range map[string]string{
		"\x1b[1;31mred\x1b[0m\n":          "\x1b[1;31mred\x1b[0m\n",
		"10%\r20%\x1b[K\n":                "10%\r20%\n",
		"\x1b[2J\x1b[H\x1b[?25lgone":      "gone",
		"\x1b]52;c;Y3VybA==\x07clipboard": `\x1b]52;c;Y3VybA==\x07clipboard`,
		"\x1bc reset, \x1b":               `\x1bc reset, \x1b`,
		"\x1b[31":                         `\x1b[31`,
		"\x1b[31\x1b[0m":                  `\x1b[31` + "\x1b[0m",
		"\u009b2J\b":                      `\u009b2J\x08`,
	} {
		if got := string(EscapeLog([]byte(text))); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// TestEscapeAllControls: the bidirectional controls and both sets of control characters are all escaped.
func TestEscapeAllControls(t *testing.T) {
	for _, r := range []struct{ from, to rune }{{0, 8}, {0xb, 0x1f}, {0x7f, 0x9f}, {0x200e, 0x200f}, {0x202a, 0x202e}, {0x2066, 0x2069}, {0x2028, 0x2029}, {0x61c, 0x61c}} {
		for c := r.from; c <= r.to; c++ {
			if got := EscapeString("a" + string(c) + "b"); strings.ContainsRune(got, c) || !strings.HasPrefix(got, `a\`) || !strings.HasSuffix(got, "b") {
				t.Errorf("%U becomes %q", c, got)
			}
		}
	}
}

// FuzzEscape: what is escaped holds nothing that a terminal obeys, and text without any is as it was.
func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"text", "\x1b[31m", "\x9b", "\u202e", "\xe6\x97", "\x1b[1;2", "\u200b\ufeff\u2066\u2028", "\U000e0041", "\xed\xa0\x80", "\u0085"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := Escape(bytes.Clone(text))
		if harmless(got) != len(got) || !utf8.Valid(got) {
			t.Errorf("%q becomes %q", text, got)
		}
		if harmless(text) == len(text) && !bytes.Equal(got, text) {
			t.Errorf("%q becomes %q", text, got)
		}
		log := EscapeLog(bytes.Clone(text))
		for i := range log {
			if log[i] == '\x1b' && (controlSequence(log[i:]) == 1 || log[i+controlSequence(log[i:])-1] != 'm') {
				t.Errorf("%q becomes %q", text, log)
			}
		}
	})
}

// A character that arrives in two writes is one character, and an unfinished one is shown at the end.
func TestWriterSplitCharacters(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	w := &Writer{file: f, isTerminal: true}
	for _, part := range []string{"\xe6", "\x97", "\xa5 \xc2", "\x9b \x1b[2J", "x\xf0\x9f"} {
		if n, err := w.Write([]byte(part)); err != nil || n != len(part) {
			t.Errorf("write %q: %d, %v", part, n, err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(f.Name())
	if want := "日 \\u009b \\x1b[2Jx\\xf0\\x9f"; err != nil || string(got) != want {
		t.Errorf("%q, want %q; %v", got, want, err)
	}
}

// A pipe or a file gets the bytes themselves, and an error of any write is remembered.
func TestWriterFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	w := NewWriter(f)
	const text = "\x1b[31m\xff\u202e"
	if _, err := w.Write([]byte(text)); err != nil || w.Flush() != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(f.Name()); err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	w = NewWriter(full)
	_, _ = w.Write([]byte("lost"))
	if err := w.Flush(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full device: %v", err)
	}
}
