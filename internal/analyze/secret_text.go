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

// assignment matches NAME=value, name = value, name: value and --name value, with or without quotes. Build arguments, variables, labels and flags have this form.
var assignment = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:\\[nrt])?([A-Za-z][A-Za-z0-9_.-]*)( = |=|: ?)("(?:[^"\\]|\\.)*"|'[^']*'|(?:[^\s"'&|;\\]|\\[^nrt\s])+)|(--[A-Za-z0-9-]+) ("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'&|;-][^\s"'&|;]*)`)
})

// The patterns below are searched only in texts that have one of their words, which is 10 times as fast.
var (
	authorizationWords = []string{"bearer", "authorization"}
	passwordFlagWords  = []string{"curl", "sshpass", "mysql"}
	urlWords           = []string{"://"}
)

// authorization matches what a header of HTTP carries.
var authorization = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)((?:\bbearer|\bauthorization["']?\s*[:=]\s*["']?(?:basic|token))\s+)([A-Za-z0-9+/=._~-]{8,})`)
})

// urlPassword matches the password in a URL of any scheme, as those of databases. redact.URLs knows those of schemes of the web.
var urlPassword = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://[^\s/?#"'<>|:@]*:)([^\s/?#"'<>|@${*][^\s/?#"'<>|@$]*)@`)
})

// urlReference matches a URL whose password, or user without one, is a variable of the shell.
var urlReference = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`://(?:[^\s/?#"'<>|:@]*:)?\$(?:\w+|\{[^\s/@}]*\})@`)
})

// passwordFlag matches passwords in the arguments of programs.
var passwordFlag = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(\bcurl\b[^|;&\n]*?\s(?:-[a-zA-Z]*u|--user)[ =]?["']?[^\s:"']+:|\bsshpass\s+-p\s*["']?|\bmysql(?:dump|admin)?\b[^|;&\n]*?\s-p["']?)([^\s"'$][^\s"']*)`)
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
	if hasWord(text, authorizationWords) {
		text = authorization().ReplaceAllString(text, "${1}"+mask)
	}
	if hasWord(text, passwordFlagWords) {
		text = passwordFlag().ReplaceAllString(text, "${1}"+mask)
	}
	if hasWord(text, urlWords) {
		text = maskURLs(text)
	}
	return maskTokens(text)
}

func maskURLs(text string) string {
	return urlPassword().ReplaceAllStringFunc(text, func(found string) string {
		if strings.HasSuffix(found, "xxxxx:xxxxx@") { // as redact.URLs has it
			return found
		}
		return urlPassword().ReplaceAllString(found, "${1}"+mask+"@")
	})
}

// secretAssignment is an assignment of a secret in a text.
type secretAssignment struct {
	name       string
	start, end int // of the value
}

// secretAssignments finds the assignments of a text whose names are those of secrets, and whose values may be.
func secretAssignments(text string) (list []secretAssignment) {
	if !hasWord(text, secretWords) {
		return nil
	}
	for _, m := range assignment().FindAllStringSubmatchIndex(text, -1) {
		name, value := m[2:4], m[6:8]
		if name[0] < 0 {
			name, value = m[8:10], m[10:12]
		}
		a := secretAssignment{text[name[0]:name[1]], value[0], value[1]}
		if IsSecretName(a.name) && !isReference(text[a.start:a.end]) {
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
		list = append(list, valueFor(a.name))
	}
	if what, _ := findToken(text); what != "" {
		list = append(list, what)
	}
	if len(list) == 0 && hasPassword(text) {
		list = append(list, "a password or token")
	}
	return list
}

func valueFor(name string) string { return "a value for " + strings.TrimLeft(name, "-") }

// hasPassword reports whether a text has a secret that has neither a name nor the look of a token.
func hasPassword(text string) bool {
	if hasWord(text, urlWords) {
		text = urlReference().ReplaceAllString(text, "://")
		if redact.URLs(text) != text || urlPassword().MatchString(text) {
			return true
		}
	}
	return hasWord(text, authorizationWords) && authorization().MatchString(text) || hasWord(text, passwordFlagWords) && passwordFlag().MatchString(text)
}

// secretWords are in all names of secrets.
var secretWords = []string{"key", "auth", "credential", "password", "pword", "passwd", "pwd", "passphrase", "secret", "token"}

// hasWord reports whether a text has one of some words, with small or capital letters.
func hasWord(text string, words []string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) })
}

// secretEnds are the ends of further names of secrets, as PGPASSWORD and MYSQL_PWD.
var secretEnds = []string{"password", "passwd", "passphrase", "_pwd"}

// camel matches where a word of a name begins with a capital letter.
var camel = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`([a-z0-9])([A-Z])`) })

// IsSecretName reports whether a value is a secret by its name, that of a variable, label, flag or field. Most names have no word of
// secrets, which is known without a pattern.
func IsSecretName(name string) bool {
	if !hasWord(name, secretWords) || strings.Contains(strings.ToLower(name), "gpg") { // official images name the keys that they trust
		return false
	}
	name = strings.NewReplacer("-", "_", ".", "_").Replace(strings.TrimLeft(name, "-"))
	name = camel().ReplaceAllString(name, "${1}_${2}")
	return redact.IsSecret(name) || slices.ContainsFunc(secretEnds, func(end string) bool { return strings.HasSuffix(strings.ToLower(name), end) })
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
