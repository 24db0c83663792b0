package analyze

import (
	"regexp"
	"strings"
	"sync"

	"github.com/micabuild/mica/internal/redact"
)

// mask replaces a secret.
const mask = "*****"

// token is a kind of secret that is known by how it looks.
type token struct{ name, pattern string }

// tokens are secrets with well-known prefixes, as their issuers document them.
var tokens = []token{
	{"a private key", `-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----`},
	{"an access key of AWS", `\b(?:AKIA|ASIA)[0-9A-Z]{16}\b`},
	{"a token of GitHub", `\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{22,}`},
	{"a token of GitLab", `\bgl(?:pat|dt|rt|cbt|ptt|soat)-[A-Za-z0-9_.-]{20,}`},
	{"a token of npm", `\bnpm_[A-Za-z0-9]{36}\b`},
	{"a token of PyPI", `\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}`},
	{"a token of Docker Hub", `\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}`},
	{"a token of Slack", `\bxox[abeoprs]-[A-Za-z0-9-]{10,}`},
	{"a key of Stripe", `\b[rs]k_live_[A-Za-z0-9]{20,}`},
	{"a key of Google", `\bAIza[0-9A-Za-z_-]{35}\b`},
	{"a key of Anthropic", `\bsk-ant-[A-Za-z0-9_-]{20,}`},
	{"a key of OpenAI", `\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,}|\bsk-[A-Za-z0-9]{48}\b`},
	{"a token of Hugging Face", `\bhf_[A-Za-z0-9]{34,}\b`},
	{"a key of SendGrid", `\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}`},
	{"a token of DigitalOcean", `\bdo[opr]_v1_[a-f0-9]{64}\b`},
	{"a token of Shopify", `\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b`},
	{"a token of Vault", `\bhv[sb]\.[A-Za-z0-9_-]{24,}`},
	{"a key of age", `\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b`},
	{"a JSON Web Token", `\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}`},
}

// tokenPattern matches any of the tokens, each a group of its own.
var tokenPattern = sync.OnceValue(func() *regexp.Regexp {
	patterns := make([]string, len(tokens))
	for i, t := range tokens {
		patterns[i] = "(" + t.pattern + ")"
	}
	return regexp.MustCompile(strings.Join(patterns, "|"))
})

// findToken returns the name of the first token in a text, and where it begins; "" for none. Keys from the documentation of AWS are
// no secrets.
func findToken(text []byte) (name string, at int) {
	for from := 0; ; {
		found := tokenPattern().FindSubmatchIndex(text[from:])
		if found == nil {
			return "", 0
		}
		if !strings.HasSuffix(string(text[from+found[0]:from+found[1]]), "EXAMPLE") {
			for i, t := range tokens {
				if found[2*i+2] >= 0 {
					return t.name, from + found[0]
				}
			}
		}
		from += found[1]
	}
}

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
	text = keyBlock().ReplaceAllString(text, mask)
	text = assignment().ReplaceAllStringFunc(text, func(found string) string {
		if name, between, ok := secretAssignment(found); ok {
			return name + between + mask
		}
		return found
	})
	text = authorization().ReplaceAllString(text, "${1}"+mask)
	return tokenPattern().ReplaceAllString(text, mask)
}

// secretAssignment splits what assignment found. ok is false if the value is not a secret.
func secretAssignment(found string) (name, between string, ok bool) {
	m := assignment().FindStringSubmatch(found)
	name, between, value := m[1], m[2], m[3]
	if name == "" {
		name, between, value = m[4], " ", m[5]
	}
	return name, between, isSecretName(name) && !isReference(value)
}

// secretsIn says which secrets are in a text.
func secretsIn(text string) (list []string) {
	for _, found := range assignment().FindAllString(text, -1) {
		if name, _, ok := secretAssignment(found); ok {
			list = append(list, "a value for "+strings.TrimLeft(name, "-"))
		}
	}
	if what, _ := findToken([]byte(text)); what != "" {
		list = append(list, what)
	}
	if len(list) == 0 && MaskText(text) != text {
		list = append(list, "a password or token")
	}
	return list
}

// isSecretName is redact.IsSecret for names of labels and flags, too.
func isSecretName(name string) bool {
	name = strings.NewReplacer("-", "_", ".", "_").Replace(strings.TrimLeft(name, "-"))
	return redact.IsSecret(name) && !strings.Contains(strings.ToLower(name), "gpg") // official images name the keys that they trust
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
