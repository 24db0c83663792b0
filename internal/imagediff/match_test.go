package imagediff

import "testing"

func TestMatcher(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		patterns []string
		path     string
		want     bool
	}{
		{nil, "a", false},
		{[]string{"*.conf"}, "etc/a.conf", true},
		{[]string{"*.conf"}, "etc/a.conf.d", false},
		{[]string{"etc"}, "etc/x/y", true},
		{[]string{"etc"}, "usr/etc/x", true},
		{[]string{"/etc"}, "usr/etc", false},
		{[]string{"/etc"}, "etc/x", true},
		{[]string{"//etc/"}, "etc/x", true},
		{[]string{"etc/*"}, "etc/x/y", true},
		{[]string{"usr/**/x"}, "usr/a/b/x", true},
		{[]string{"/"}, "a/b", true},
		{[]string{"**"}, "a\nb/\n", true},
		{[]string{"/d/**"}, "d/a\nb", true},
		{[]string{"a\nb"}, "d/a\nb", true},
		{[]string{"a\nb"}, "d/ab", false},
		{[]string{"**"}, "\xff", true},
		{[]string{"/etc", "!passwd"}, "etc/passwd", false},
		{[]string{"/etc", "!/etc/passwd"}, "etc/passwd", false},
		{[]string{"/etc", "!/etc/passwd"}, "etc/group", true},
		{[]string{`\!x`}, "!x", true},
	} {
		m, err := newMatcher(test.patterns)
		if err != nil {
			t.Errorf("%q: %v", test.patterns, err)
			continue
		}
		if got := m.match(test.path); got != test.want {
			t.Errorf("%q matches %q: %t", test.patterns, test.path, got)
		}
	}
	for _, bad := range []string{"", " ", "!", "! ", "[", "a/[]b"} {
		if _, err := newMatcher([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
