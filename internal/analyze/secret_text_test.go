package analyze

import (
	"strings"
	"testing"
)

// TestTokens: each kind of token is found by each of its beginnings, with the line before it, and masked as a whole.
func TestTokens(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a1B2c3D4e5", 8)
	digits := strings.Repeat("0123456789abcdef", 4)
	for name, list := range map[string][]string{
		"an access key of AWS":    {"AKIA" + strings.Repeat("A", 16), "ASIA" + strings.Repeat("Z", 16)},
		"a token of GitHub":       {"ghp_" + long, "gho_" + long, "ghu_" + long, "ghs_" + long, "ghr_" + long, "github_pat_" + long},
		"a token of GitLab":       {"glpat-" + long, "gldt-" + long, "glrt-" + long, "glcbt-" + long, "glptt-" + long, "glsoat-" + long},
		"a token of npm":          {"npm_" + long[:36]},
		"a token of PyPI":         {"pypi-AgEIcHlwaS5vcmc" + long},
		"a token of Docker Hub":   {"dckr_pat_" + long, "dckr_oat_" + long},
		"a token of Slack":        {"xoxb-" + long, "xoxp-" + long},
		"a key of Stripe":         {"sk_live_" + long, "rk_live_" + long},
		"a key of Google":         {"AIza" + long[:35]},
		"a key of Anthropic":      {"sk-ant-" + long},
		"a key of OpenAI":         {"sk-proj-" + long, "sk-svcacct-" + long, "sk-admin-" + long, "sk-" + long[:48]},
		"a token of Hugging Face": {"hf_" + long},
		"a key of SendGrid":       {"SG." + long[:22] + "." + long[:43]},
		"a token of DigitalOcean": {"doo_v1_" + digits, "dop_v1_" + digits, "dor_v1_" + digits},
		"a token of Shopify":      {"shpat_" + digits[:32], "shpca_" + digits[:32], "shppa_" + digits[:32], "shpss_" + digits[:32]},
		"a token of Vault":        {"hvs." + long, "hvb." + long},
		"a key of age":            {"AGE-SECRET-KEY-1" + strings.Repeat("Q", 58)},
		"a JSON Web Token":        {"eyJ" + long + ".eyJ" + long + "." + long},
	} {
		for _, token := range list {
			text := "# a\n\"" + token + "\" b"
			if what, at := findToken(text); what != name || at != strings.Index(text, token) {
				t.Errorf("%s: found %q at %d", token, what, at)
			}
			if got := MaskText(text); got != "# a\n\"*****\" b" {
				t.Errorf("%s is masked as %q", token, got)
			}
			if what, _ := findToken("x" + token); what != "" {
				t.Errorf("%s is found in the middle of a word", token)
			}
		}
	}
}

// TestFirstToken: of several tokens, the first in the text is named; all are masked, those that are one after the other too.
func TestFirstToken(t *testing.T) {
	t.Parallel()
	aws := "AKIA" + strings.Repeat("A", 16)
	text := "a " + someToken + "," + aws + " " + someToken
	if what, at := findToken(text); what != "a token of GitHub" || at != 2 {
		t.Errorf("found %q at %d", what, at)
	}
	if got := MaskText(text); got != "a *****,***** *****" {
		t.Errorf("masked as %q", got)
	}
	if what, _ := findToken("AKIAIOSFODNN7EXAMPLE and AKIA"); what != "" {
		t.Errorf("%s is found in an example", what)
	}
}

// BenchmarkSecretsIn: what the history of a hostile image, or 64 KiB of source text, costs.
func BenchmarkSecretsIn(b *testing.B) {
	for name, text := range map[string]string{"words": "install foo && ", "assignments": "x=y ", "secrets": "key=y ", "starts": "eyJaaaaaaaaaaa-sk-hf_"} {
		b.Run(name, func(b *testing.B) {
			text := strings.Repeat(text, (64<<10)/len(text))
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				secretsIn(text)
			}
		})
	}
}
