package redact

import (
	"strings"
	"testing"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                    "",
		"ADD https://user:pw@host/f /":        "ADD https://xxxxx:xxxxx@host/f /",
		"https://token@github.com/a/b.git":    "https://xxxxx@github.com/a/b.git",
		"https://:pw@host":                    "https://xxxxx:xxxxx@host",
		"http://a:p@ss@host/x@y":              "http://xxxxx:xxxxx@host/x@y",
		"git+https://u:p@host/r#main":         "git+https://xxxxx:xxxxx@host/r#main",
		`"HTTP://U:P@host" and 'ftp://u:p@h'`: `"HTTP://xxxxx:xxxxx@host" and 'ftp://xxxxx:xxxxx@h'`,
		"https://user:pw@":                    "https://xxxxx:xxxxx@",
		"https://host/path@sha256:1":          "https://host/path@sha256:1",
		"https://host?mail=a@b":               "https://host?mail=a@b",
		"docker-image://base@sha256:1":        "docker-image://base@sha256:1",
		"ssh://git@host/r":                    "ssh://git@host/r",
		"ssh://git:pw@host/r":                 "ssh://xxxxx:xxxxx@host/r",
		"git@github.com:a/b.git":              "git@github.com:a/b.git",
		`{"u":"https://a:b\u0026c@host"}`:     `{"u":"https://xxxxx:xxxxx@host"}`,
		"mail a@b see http://host":            "mail a@b see http://host",
	} {
		if got := URLs(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// FuzzURLs: a password in a URL is removed, whatever is before and after it, and redacting twice changes nothing.
func FuzzURLs(f *testing.F) {
	for _, around := range [][2]string{{"", ""}, {"ADD ", " /"}, {"\"", "\""}, {"https://", "@x"}, {"a@b ", "#c@d"}, {"git+", ".git"}, {"\u00e9", "\xff"}, {"x", "\x00"}} {
		f.Add(around[0], around[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		text := before + " https://user:hunter2@host/" + after
		got := URLs(text)
		if !strings.Contains(before+after, "hunter2") && strings.Contains(got, "hunter2") {
			t.Errorf("%q becomes %q", text, got)
		}
		if again := URLs(got); again != got {
			t.Errorf("%q becomes %q, and then %q", text, got, again)
		}
	})
}

// TestIsSecret: names of variables whose values are secrets, as BuildKit's linter knows them.
func TestIsSecret(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"TOKEN": true, "API_TOKEN": true, "token_v2": true, "Password": true, "DB_PASSWD": true, "SIGNING_KEY": true, "AWS_SECRET": true, "auth": true, "APIKEY": true,
		"VERSION": false, "TOKENS": false, "KEYBOARD": false, "MONKEY": false, "PUBLIC_KEY": false, "AUTHOR": false, "": false,
	} {
		if got := IsSecret(name); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}
