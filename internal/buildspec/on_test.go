package buildspec

import (
	"strings"
	"testing"
)

func TestParseOn(t *testing.T) {
	t.Parallel()
	steps := []Cache{{Type: CacheRegistry, Ref: "r/max:1"}, {Type: CacheRegistry, Ref: "r/steps", Steps: true, Insecure: true}}
	for text, want := range map[string]string{
		"unix:///s,repo=localhost:1/x":                 "localhost:1/x",
		"unix:///s":                                    "r/steps",
		"unix:///s,repo=r/x,registry.insecure=true":    "r/x",
		"tcp://h:1,cacert=a,cert=b,key=c,servername=d": "r/steps",
		"tcp://h:1":                         "error needs TLS",
		"tcp://h:1,cacert=a,key=c":          "error needs TLS",
		"ssh://h":                           "error use unix:///PATH, tcp://HOST:PORT or kubernetes",
		"h:1":                               "error use unix:///PATH, tcp://HOST:PORT or kubernetes",
		"unix:///s,repo":                    "error key=value",
		"unix:///s,repo=":                   "error key=value",
		"unix:///s,repo=r/x:tag":            "error without a tag",
		"unix:///s,repo=UPPER":              "error repo: ",
		"unix:///s,registry.insecure=maybe": "error neither true nor false",
		"kubernetes,image=i,namespace=n,context=c,isolation=oci,template=f,timeout=5m": "r/steps",
		"kubernetes,timeout=soon": "error timeout: ",
		"kubernetes,timeout=-1s":  "error timeout: ",
		"kubernetes,cert=c":       "error unknown key",
		"unix:///s,image=i":       "error unknown key",
		"unix:///s,nothing=1":     `error unknown key "nothing"`,
		"unix:///s,repo=r/x@sha256:" + strings.Repeat("0123456789abcdef", 4): "error without a tag",
	} {
		on, err := ParseOn(text, steps)
		var got string
		if err != nil {
			got = "error " + err.Error()
		} else {
			got = on.Layers.Ref
		}
		rest, fails := strings.CutPrefix(want, "error ")
		if fails != (err != nil) || !strings.Contains(got, rest) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if on, err := ParseOn("", steps); on != nil || err != nil {
		t.Error("without --on, steps run elsewhere", on, err)
	}
	if _, err := ParseOn("unix:///s", steps[:1]); err == nil || !strings.Contains(err.Error(), "repo=REGISTRY/NAME") {
		t.Error("without a repository:", err)
	}
}
