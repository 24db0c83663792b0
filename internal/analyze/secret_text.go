package analyze

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/micabuild/mica/internal/redact"
)

// mask replaces a secret.
const mask = "*****"

// assignment matches NAME=value and --name value, with or without quotes. Build arguments, variables, labels and flags have this form.
var assignment = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`([A-Za-z][A-Za-z0-9_.-]*)(=|: ?)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'&|;]+)|(--[A-Za-z0-9-]+) ("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'&|;-][^\s"'&|;]*)`)
})

// authorization matches what a header of HTTP carries.
var authorization = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)((?:\bbearer|\bauthorization["']?\s*[:=]\s*["']?(?:basic|token))\s+)([A-Za-z0-9+/=._~-]{8,})`)
})

// keyBlock matches a private key to its end.
var keyBlock = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?s)-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*-----|$)`)
})

// MaskText returns a text, such as a command, without the secrets in it, as far as they are known by their names or their looks.
func MaskText(text string) string {
	text = redact.URLs(text)
	if strings.Contains(text, "-----BEGIN") {
		text = keyBlock().ReplaceAllString(text, mask)
	}
	text = maskAssignments(text)
	text = authorization().ReplaceAllString(text, "${1}"+mask)
	return maskTokens(text)
}

// secretAssignment is an assignment of a secret in a text.
type secretAssignment struct {
	name       string
	start, end int // of the value
}

// secretAssignments finds the assignments of a text whose names are those of secrets, and whose values may be.
func secretAssignments(text string) (list []secretAssignment) {
	if !hasSecretWord(text) {
		return nil
	}
	for _, m := range assignment().FindAllStringSubmatchIndex(text, -1) {
		name, value := m[2:4], m[6:8]
		if name[0] < 0 {
			name, value = m[8:10], m[10:12]
		}
		a := secretAssignment{text[name[0]:name[1]], value[0], value[1]}
		if isSecretName(a.name) && !isReference(text[a.start:a.end]) {
			list = append(list, a)
		}
	}
	return list
}

func maskAssignments(text string) string {
	found := secretAssignments(text)
	if len(found) == 0 {
		return text
	}
	var b strings.Builder
	at := 0
	for _, a := range found {
		b.WriteString(text[at:a.start])
		b.WriteString(mask)
		at = a.end
	}
	b.WriteString(text[at:])
	return b.String()
}

// secretsIn says which secrets are in a text.
func secretsIn(text string) (list []string) {
	for _, a := range secretAssignments(text) {
		list = append(list, "a value for "+strings.TrimLeft(a.name, "-"))
	}
	if what, _ := findToken(text); what != "" {
		list = append(list, what)
	}
	if len(list) == 0 && hasPassword(text) {
		list = append(list, "a password or token")
	}
	return list
}

// hasPassword reports whether a text has a secret that has neither a name nor the look of a token.
func hasPassword(text string) bool {
	return redact.URLs(text) != text || authorization().MatchString(text) || keyBlock().MatchString(text)
}

// secretWords are in all names of secrets.
var secretWords = []string{"key", "auth", "credential", "password", "pword", "passwd", "secret", "token"}

func hasSecretWord(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(text, word) })
}

// isSecretName is redact.IsSecret for names of labels and flags, too. Most names have no such word, which is known without the pattern.
func isSecretName(name string) bool {
	if !hasSecretWord(name) || strings.Contains(strings.ToLower(name), "gpg") { // official images name the keys that they trust
		return false
	}
	return redact.IsSecret(strings.NewReplacer("-", "_", ".", "_").Replace(strings.TrimLeft(name, "-")))
}

// isReference reports whether a value only says where a secret is: another variable, a file, a placeholder, or nothing.
func isReference(value string) bool {
	value = strings.Trim(value, `"'`)
	lower := strings.ToLower(value)
	switch lower {
	case "", mask, "true", "false", "yes", "no", "none", "null", "changeme", "xxx", "xxxxx", "todo", "0", "1":
		return true
	}
	return strings.HasPrefix(value, "$") || strings.HasPrefix(value, "<") || strings.HasPrefix(value, "{{") ||
		strings.HasPrefix(value, "/") && !strings.ContainsAny(value, "+=") || strings.HasPrefix(lower, "id=") || strings.HasPrefix(lower, "your")
}
