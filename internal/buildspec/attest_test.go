package buildspec

import "testing"

func TestParseAttests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		list []string
		want Attests
		err  string
	}{
		"none":             {want: Attests{}},
		"provenance":       {list: []string{"type=provenance,mode=max"}, want: Attests{"provenance": {"mode": "max"}}},
		"without values":   {list: []string{"type=sbom"}, want: Attests{"sbom": {}}},
		"both":             {list: []string{"type=sbom", "type=provenance"}, want: Attests{"sbom": {}, "provenance": {}}},
		"keys of a type":   {list: []string{" TYPE=sbom,Generator=x"}, want: Attests{"sbom": {"Generator": "x"}}},
		"last of a type":   {list: []string{"type=sbom,generator=a", "type=sbom,generator=b"}, want: Attests{"sbom": {"generator": "b"}}},
		"disabled":         {list: []string{"type=provenance", "type=provenance,disabled=true"}, want: Attests{}},
		"enabled again":    {list: []string{"type=provenance,disabled=true", "type=provenance"}, want: Attests{"provenance": {}}},
		"not disabled":     {list: []string{"type=provenance,disabled=false"}, want: Attests{"provenance": {}}},
		"shorthand, true":  {list: []string{CanonicalAttest("sbom", "true")}, want: Attests{"sbom": {}}},
		"shorthand, false": {list: []string{"type=sbom", CanonicalAttest("sbom", "0")}, want: Attests{}},
		"shorthand, mode":  {list: []string{CanonicalAttest("provenance", "mode=min")}, want: Attests{"provenance": {"mode": "min"}}},
		"no type":          {list: []string{"mode=max"}, err: `invalid attestation "mode=max": attestation type not specified`},
		"unknown":          {list: []string{"type=vex"}, err: `invalid attestation "type=vex": the type is provenance or sbom`},
		"no value":         {list: []string{"type=sbom,generator"}, err: `invalid attestation "type=sbom,generator": invalid value generator: expected key=value`},
		"neither":          {list: []string{"type=sbom,disabled=x"}, err: `invalid attestation "type=sbom,disabled=x": invalid value disabled=x: neither true nor false`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseAttests(c.list)
			check(t, got, err, c.want, c.err)
		})
	}
}

func TestAttestFrontendOption(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"type=sbom":                               "",
		"type=sbom,mode=max,builder-id=b":         "builder-id=b,mode=max",
		`type=sbom,"generator=image:1,arg"`:       `"generator=image:1,arg"`,
		"type=provenance,inline-only=true,mode=a": "",
	} {
		got, err := ParseAttests([]string{text})
		if err != nil || got.FrontendOption("sbom") != want {
			t.Errorf("%s: %q, want %q; %v", text, got.FrontendOption("sbom"), want, err)
		}
	}
}
