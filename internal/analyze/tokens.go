package analyze

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// token is a kind of secret that is known by how it looks.
type token struct {
	name   string
	starts string // what its forms begin with: a search for these alone is 100 times as fast as one for the pattern
	form   string // a pattern for all of it
}

// tokens are secrets with well-known prefixes, as their issuers document them.
var tokens = []token{
	// Programs name the header: only what looks like a key after it makes it one.
	{"a private key", "-----BEGIN", anyKey + `(?:\\[rn]|[\s"'+,\\])*(?:[A-Za-z0-9+/=]{16,}|(?:Proc-Type|DEK-Info|Version|Comment|Hash):)`},
	{"an access key of AWS", "AKIA ASIA", `(?:AKIA|ASIA)[0-9A-Z]{16}\b`},
	{"a token of GitHub", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", `gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}`},
	{"a token of GitLab", "glpat- gldt- glrt- glcbt- glptt- glsoat-", `gl(?:pat|dt|rt|cbt|ptt|soat)-[A-Za-z0-9_.-]{20,}`},
	{"a token of npm", "npm_", `npm_[A-Za-z0-9]{36}\b`},
	{"a token of PyPI", "pypi-AgEIcHlwaS5vcmc", `pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}`},
	{"a token of Docker Hub", "dckr_pat_ dckr_oat_", `dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}`},
	{"a token of Slack", "xox", `xox[abeoprs]-[A-Za-z0-9-]{10,}`},
	{"a key of Stripe", "sk_live_ rk_live_", `[rs]k_live_[A-Za-z0-9]{20,}`},
	{"a key of Google", "AIza", `AIza[0-9A-Za-z_-]{35}\b`},
	{"a key of Anthropic", "sk-ant-", `sk-ant-[A-Za-z0-9_-]{20,}`},
	{"a key of OpenAI", "sk-", `sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,}|sk-[A-Za-z0-9]{48}\b`},
	{"a token of Hugging Face", "hf_", `hf_[A-Za-z0-9]{34,}\b`},
	{"a key of SendGrid", "SG.", `SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}`},
	{"a token of DigitalOcean", "doo_v1_ dop_v1_ dor_v1_", `do[opr]_v1_[a-f0-9]{64}\b`},
	{"a token of Shopify", "shpat_ shpca_ shppa_ shpss_", `shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b`},
	{"a token of Vault", "hvs. hvb.", `hv[sb]\.[A-Za-z0-9_-]{24,}`},
	{"a key of age", "AGE-SECRET-KEY-1", `AGE-SECRET-KEY-1[0-9A-Z]{58}\b`},
	// The first part has a bound: text that only begins like it takes no time with the square of its length.
	{"a JSON Web Token", "eyJ", `eyJ[A-Za-z0-9_-]{10,500}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}`},
}

// tokenStart is one beginning of a kind of tokens.
type tokenStart struct {
	text string
	kind int // in tokens
	form *regexp.Regexp
}

var tokenStarts = sync.OnceValue(func() (list []tokenStart) {
	for i, t := range tokens {
		form := regexp.MustCompile(`\A(?:` + t.form + `)`)
		for _, text := range strings.Fields(t.starts) {
			list = append(list, tokenStart{text, i, form})
		}
	}
	return list
})

// find returns where the next token of this beginning is; start is -1 if there is none. Keys in the documentation of AWS are not
// secrets.
func (s *tokenStart) find(text string) (start, end int) {
	for from := 0; ; {
		i := strings.Index(text[from:], s.text)
		if i < 0 {
			return -1, -1
		}
		start = from + i
		from = start + len(s.text)
		if start > 0 && isWord(text[start-1]) && isWord(s.text[0]) {
			continue // in the middle of a word
		}
		if found := s.form.FindStringIndex(text[start:]); found != nil {
			if end = start + found[1]; !strings.HasSuffix(text[start:end], "EXAMPLE") {
				return start, end
			}
			from = end
		}
	}
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// findToken returns the name of the first token in a text, and where it begins; "" for none.
func findToken(text string) (name string, at int) {
	for _, s := range tokenStarts() {
		if start, _ := s.find(text); start >= 0 && (name == "" || start < at) {
			name, at = tokens[s.kind].name, start
		}
	}
	return name, at
}

// maskTokens returns a text without the tokens in it.
func maskTokens(text string) string {
	var found [][2]int
	for _, s := range tokenStarts() {
		for from := 0; ; {
			start, end := s.find(text[from:])
			if start < 0 {
				break
			}
			found = append(found, [2]int{from + start, from + end})
			from += end
		}
	}
	if len(found) == 0 {
		return text
	}
	slices.SortFunc(found, func(a, b [2]int) int { return a[0] - b[0] })
	var b strings.Builder
	at := 0
	for _, f := range found {
		if f[0] >= at {
			b.WriteString(text[at:f[0]])
			b.WriteString(mask)
		}
		at = max(at, f[1])
	}
	b.WriteString(text[at:])
	return b.String()
}
