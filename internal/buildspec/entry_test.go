package buildspec

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseEntry(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct {
		want Entry
		err  string
	}{
		"type=a":               {want: Entry{"a", map[string]string{}}},
		"a=1,type=b,A=2":       {want: Entry{"b", map[string]string{"a": "2"}}},
		`"a=b,c",type=d`:       {want: Entry{"d", map[string]string{"a": "b,c"}}},
		`type=a,"k=say ""x"""`: {want: Entry{"a", map[string]string{"k": `say "x"`}}},
		"type=a,k=":            {want: Entry{"a", map[string]string{"k": ""}}},
		"type=a,k":             {err: "invalid value k: expected key=value"},
		`type="a`:              {err: `parse error on line 1, column 6: bare " in non-quoted-field`},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			got, err := ParseEntry(text, strings.ToLower)
			check(t, got, err, c.want, c.err)
		})
	}
}

// TestEntryText: the text of an entry is one that is read as the same entry, whatever its values are.
func TestEntryText(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]Entry{
		"type=a":                   {Type: "a"},
		"type=a,b=1,c=2":           {"a", map[string]string{"c": "2", "b": "1"}},
		`type=a,"b=1,2"`:           {"a", map[string]string{"b": "1,2"}},
		`type=a,"b=say ""x"""`:     {"a", map[string]string{"b": `say "x"`}},
		"type=a,b=x=y":             {"a", map[string]string{"b": "x=y"}},
		"\"type=a\nb\",c= leading": {"a\nb", map[string]string{"c": " leading"}},
	} {
		if got := e.String(); got != want {
			t.Errorf("%q, want %q", got, want)
			continue
		}
		again, err := ParseEntry(want, strings.ToLower)
		if err != nil || !again.Equal(Entry{e.Type, e.Map()}) && !again.Equal(e) && len(e.Attrs) > 0 {
			t.Errorf("%q is read as %v, %v", want, again, err)
		}
	}
}

func TestEntryCopies(t *testing.T) {
	t.Parallel()
	e := Entry{"a", map[string]string{"b": "1"}}
	clone := e.Clone()
	clone.Attrs["b"] = "2"
	if e.Attrs["b"] != "1" || e.Equal(clone) || !e.Equal(e.Clone()) || e.Equal(Entry{"c", e.Attrs}) {
		t.Errorf("%v, %v", e, clone)
	}
	e.Map()["b"] = "3"
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"b":"1","type":"a"}`, string(data)); diff != "" {
		t.Error(diff)
	}
}

// FuzzGrammars: every grammar reads any text or refuses it with one line.
func FuzzGrammars(f *testing.F) {
	for _, s := range []string{
		"type=registry,ref=a", "a,b", "id=a,src=b", "default=/sock,raw=true", "memory=2g,cpuset-cpus=0", "check,format=json", "linux/arm/v7",
		"h:1.2.3.4,::1", "index[linux/amd64]:a=b", "a=docker-image://b", "nofile=1:2", `"`, "", "=", ",",
	} {
		f.Add(s)
	}
	grammars := map[string]func(string) error{
		"cache, read":    func(s string) error { _, err := ParseCaches([]string{s}, false); return err },
		"cache, written": func(s string) error { _, err := ParseCaches([]string{s}, true); return err },
		"secret":         func(s string) error { _, err := ParseSecrets([]string{s}); return err },
		"ssh":            func(s string) error { _, err := ParseSSH([]string{s}); return err },
		"limit":          func(s string) error { _, err := ParseLimits([]string{s}); return err },
		"call":           func(s string) error { _, err := ParseCall(s); return err },
		"platform":       func(s string) error { _, err := ParsePlatforms([]string{s}); return err },
		"host":           func(s string) error { _, err := ParseHosts([]string{s}); return err },
		"annotation":     func(s string) error { _, err := ParseAnnotations([]string{s}); return err },
		"attestation":    func(s string) error { _, err := ParseAttests([]string{s}); return err },
		"context":        func(s string) error { _, err := ParseContexts([]string{s}); return err },
		"ulimit":         func(s string) error { _, err := ParseUlimits([]string{s}); return err },
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, parse := range grammars {
			if err := parse(s); err != nil && strings.Contains(err.Error(), "\n") && !strings.Contains(s, "\n") {
				t.Errorf("%s: %q: more than a line: %q", name, s, err)
			}
		}
	})
}
