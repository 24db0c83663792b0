package isolation

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		flag, env string
		want      Mode
		err       string
	}{
		"nothing":            {want: Auto},
		"Docker's default":   {flag: "default", env: "none", want: Auto},
		"a flag":             {flag: "oci", env: "none", want: OCI},
		"the environment":    {env: "none", want: None},
		"invalid flag":       {flag: "hyperv", err: "--isolation: invalid isolation \"hyperv\""},
		"invalid in the env": {env: "x", err: "MICA_ISOLATION: invalid isolation \"x\""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(Variable, c.env)
			got, err := Parse(c.flag)
			if got != c.want || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q, %v; want %q, %q", got, err, c.want, c.err)
			}
		})
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	if got, err := Find(t.Context(), None, nil); got.Mode != None || got.Unable() == nil || err != nil {
		t.Errorf("none: %+v, %v", got, err)
	}
	if os.Geteuid() != 0 {
		return // the process would start again
	}
	if got, err := Find(t.Context(), Auto, nil); got.Mode != OCI || got.Unable() != nil || err != nil {
		t.Errorf("root: %+v, %v", got, err)
	}
}

func TestUnable(t *testing.T) {
	t.Parallel()
	reason := errors.New("the reason")
	if err := (Found{Mode: None, Reason: reason}).Unable(); !errors.Is(err, reason) {
		t.Error(err)
	}
	if err := (Found{}).Unable(); err != nil {
		t.Error(err) // a store that is open already
	}
}
