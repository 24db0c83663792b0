package ui

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestDiff: two images as mica diff compares them, with texts that may be shown.
func TestDiff(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	a := l.image("app:1", "etc/ etc/same=1 etc/[a]*=one etc/b=gone", "x=1")
	l.image("app:2", "etc/ etc/same=1 etc/[a]*=two etc/\xff\x1bnew=12345")
	var d diffPage
	l.get("diff?a=app:1&b="+url.QueryEscape("app:2"), &d)
	var got []string
	for _, c := range d.Files.Changes {
		got = append(got, fmt.Sprint(c.Change, " ", c.Path, " ", c.Aspects))
	}
	want := `changed /etc/[a]* [content]|removed /etc/b []|added /etc/\xff\x1bnew []|removed /x []`
	if strings.Join(got, "|") != want || d.Same || d.Files.Total != 4 || d.Files.Added.Count != 1 || d.Files.Removed.Size != 5 {
		t.Errorf("%s, %+v", strings.Join(got, "|"), d.Files)
	}
	if len(d.Layers) != 3 || d.Layers[0].Change != "removed" || d.A.ID != a.ID || d.Layers[2].Change != "added" {
		t.Errorf("%+v", d.Layers)
	}
	var text textPage
	l.get("difftext?a=app:1&b=app:2&path="+d.Files.Changes[0].Ref, &text)
	if !strings.Contains(text.Text, "-one") || !strings.Contains(text.Text, "+two") {
		t.Errorf("%+v", text)
	}
	l.get("difftext?a=app:1&b=app:2&path=%2Fetc%2Fsame", &text)
	if text.Text != "" && text.None == "" {
		t.Errorf("%+v", text)
	}
	l.get("diff?a=app:1&b=app:1", &d)
	if !d.Same {
		t.Errorf("%+v", d)
	}
	l.fails("diff?a=app:1", http.StatusBadRequest)
	l.fails("diff?a=nothing&b=app:1", http.StatusNotFound)
	l.fails("difftext?a=app:1&b=app:2", http.StatusBadRequest)
}

// TestSecretsOfConfigs: the values of variables that hold secrets are not told.
func TestSecretsOfConfigs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ key, raw, want string }{
		{"API_TOKEN", `"hunter2"`, hidden}, {"PATH", `"/bin"`, "/bin"}, {"", `["a","b"]`, `["a","b"]`}, {"", "", ""}, {"URL", `"https://u:hunter2@host/"`, "https://xxxxx:xxxxx@host/"},
		{"", `["API_TOKEN=hunter2"]`, ""}, {"X", `"\u001b[31m"`, `\x1b[31m`},
	} {
		got := configValue(tt.key, []byte(tt.raw))
		if tt.want != "" && got != tt.want || strings.Contains(got, "hunter2") {
			t.Errorf("%s %s: %q, want %q", tt.key, tt.raw, got, tt.want)
		}
	}
}
