package ocilayout

import "testing"

func TestCleanName(t *testing.T) {
	for in, want := range map[string]string{"a": "a", "./a/b": "a/b", "/a": "a", "a/../b": "b", "a/": "a"} {
		if got, err := cleanName(in); err != nil || got != want {
			t.Errorf("%q is %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"..", "../a", "a/../../b"} {
		if got, err := cleanName(bad); err == nil {
			t.Errorf("%q is %q", bad, got)
		}
	}
}
