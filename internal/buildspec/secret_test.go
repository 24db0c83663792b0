package buildspec

import "testing"

func TestParseSecrets(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct {
		want Secret
		err  string
	}{
		"id=a,src=f":          {want: Secret{ID: "a", Src: "f"}},
		"id=a,source=f":       {want: Secret{ID: "a", Src: "f"}},
		"ID=a,Env=E":          {want: Secret{ID: "a", Env: "E"}},
		"id=a,type=env,src=E": {want: Secret{ID: "a", Env: "E"}},
		"type=env,env=E,id=a": {want: Secret{ID: "a", Env: "E"}},
		"type=file,id=a":      {want: Secret{ID: "a"}},
		`id=a,"src=b,c"`:      {want: Secret{ID: "a", Src: "b,c"}},
		"id=a,src":            {err: `invalid secret "id=a,src": field "src" must be a key=value pair`},
		"id=a,path=f":         {err: `invalid secret "id=a,path=f": unexpected key "path": use id, src, env or type`},
		"id=a,type=vault":     {err: `invalid secret "id=a,type=vault": unsupported type "vault": use file or env`},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			got, err := ParseSecrets([]string{text})
			check(t, got, err, []Secret{c.want}, c.err)
		})
	}
}

func TestParseSSH(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct {
		want SSH
		err  string
	}{
		"default":           {want: SSH{ID: "default"}},
		"":                  {want: SSH{}},
		"a=/sock":           {want: SSH{ID: "a", Paths: []string{"/sock"}}},
		"a=k1,k2":           {want: SSH{ID: "a", Paths: []string{"k1", "k2"}}},
		"a=/sock,raw=true":  {want: SSH{ID: "a", Paths: []string{"/sock"}, Raw: true}},
		"a=raw=false,/sock": {want: SSH{ID: "a", Paths: []string{"/sock"}}},
		"a=":                {want: SSH{ID: "a", Paths: []string{""}}},
		"a=s,raw=x":         {err: `invalid ssh "a=s,raw=x": raw is true or false, not "x"`},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			got, err := ParseSSH([]string{text})
			check(t, got, err, []SSH{c.want}, c.err)
		})
	}
}
