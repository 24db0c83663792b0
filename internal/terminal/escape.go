package terminal

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Escape returns text with visible escapes for control characters (ECMA-48's C0 without newline and tab, DEL, C1), for
// characters that change the direction or the lines of the text around them, for invisible ones, and for bytes that are not
// UTF-8. An ESC becomes \x1b, a right-to-left override \u202e.
func Escape(text []byte) []byte {
	i := harmless(text)
	if i == len(text) {
		return text
	}
	out := append(make([]byte, 0, len(text)+16), text[:i]...)
	for len(text[i:]) > 0 {
		r, size := utf8.DecodeRune(text[i:])
		out = appendVisible(out, r, text[i:i+size])
		i += size
	}
	return out
}

// EscapeString is Escape for a string.
func EscapeString(text string) string { return string(Escape([]byte(text))) }

// harmless returns the length of the text before the first character to be escaped.
func harmless(text []byte) int {
	for i := 0; i < len(text); {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(text[i:])
		}
		if obeyed(r, size) {
			return i
		}
		i += size
	}
	return len(text)
}

func appendVisible(out []byte, r rune, raw []byte) []byte {
	switch {
	case !obeyed(r, len(raw)):
		return append(out, raw...)
	case r < utf8.RuneSelf || r == utf8.RuneError:
		return fmt.Appendf(out, `\x%02x`, raw)
	}
	if r > 0xffff {
		return fmt.Appendf(out, `\U%08x`, r)
	}
	return fmt.Appendf(out, `\u%04x`, r)
}

// obeyed reports whether a terminal may interpret a character instead of showing it. size is the length of its UTF-8: an invalid
// byte, of size 1, may be a C1 control for a terminal that does not use UTF-8.
func obeyed(r rune, size int) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r == utf8.RuneError && size == 1:
		return true
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unseen, r)
}

// unseen are invisible characters, which can make different names look alike or hide a text in another. Those that join letters
// and emoji (U+200C, U+200D) are not included: scripts need them.
var unseen = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x00ad, Hi: 0x00ad, Stride: 1}, // soft hyphen
		{Lo: 0x115f, Hi: 0x1160, Stride: 1}, // Hangul fillers
		{Lo: 0x180e, Hi: 0x180e, Stride: 1}, // Mongolian vowel separator
		{Lo: 0x200b, Hi: 0x200b, Stride: 1}, // zero width space
		{Lo: 0x2028, Hi: 0x2029, Stride: 1}, // line and paragraph separator
		{Lo: 0x2060, Hi: 0x2065, Stride: 1}, // word joiner, invisible operators
		{Lo: 0x206a, Hi: 0x206f, Stride: 1}, // deprecated format characters
		{Lo: 0x3164, Hi: 0x3164, Stride: 1}, // Hangul filler
		{Lo: 0xfeff, Hi: 0xfeff, Stride: 1}, // byte order mark
		{Lo: 0xffa0, Hi: 0xffa0, Stride: 1}, // Hangul filler
		{Lo: 0xfff9, Hi: 0xfffb, Stride: 1}, // interlinear annotations
	},
	R32: []unicode.Range32{
		{Lo: 0xe0001, Hi: 0xe0001, Stride: 1}, // tags
		{Lo: 0xe0020, Hi: 0xe007f, Stride: 1},
	},
	LatinOffset: 1,
}

// EscapeLog is Escape for the output of a running program. It keeps colours and carriage returns, and removes sequences that move
// the cursor or erase, with which programs draw progress bars.
func EscapeLog(text []byte) []byte {
	var out []byte
	for len(text) > 0 {
		i := bytes.IndexAny(text, "\x1b\r")
		if i < 0 {
			break
		}
		out = append(out, Escape(text[:i])...)
		n := 1
		if text[i] == '\x1b' {
			n = controlSequence(text[i:])
		}
		switch last := text[i+n-1]; {
		case text[i] == '\r', n > 1 && last == 'm':
			out = append(out, text[i:i+n]...)
		case n == 1:
			out = append(out, `\x1b`...)
		}
		text = text[i+n:]
	}
	return append(out, Escape(text)...)
}

// controlSequence returns the length of the control sequence (ECMA-48, 5.4) at the beginning of text: CSI, parameters,
// intermediate bytes, a final byte. It returns 1 for an ESC that begins no such sequence.
func controlSequence(text []byte) int {
	const csi = 2 // ESC [
	if len(text) <= csi || text[1] != '[' {
		return 1
	}
	i := csi
	for i < len(text) && text[i] >= 0x30 && text[i] <= 0x3f {
		i++
	}
	for i < len(text) && text[i] >= 0x20 && text[i] <= 0x2f {
		i++
	}
	if i == len(text) || text[i] < 0x40 || text[i] > 0x7e {
		return 1
	}
	return i + 1
}
