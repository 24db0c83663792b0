package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	t.Parallel()
	own := netip.MustParseAddr("10.0.0.2")
	const loopback6 = "::1\tlocalhost ip6-localhost ip6-loopback\n"
	for name, c := range map[string]struct {
		host, domain string
		own          netip.Addr
		extra        []ExtraHost
		want         string
	}{
		"on the host's network": {"h", "", netip.Addr{}, nil, "127.0.0.1\tlocalhost h\n" + loopback6},
		"its own network":       {"h", "", own, nil, "127.0.0.1\tlocalhost\n" + loopback6 + "10.0.0.2\th\n"},
		"a domain":              {"h", "a.b", own, nil, "127.0.0.1\tlocalhost\n" + loopback6 + "10.0.0.2\th.a.b h\n"},
		"a domain on the host":  {"h", "a.b", netip.Addr{}, nil, "127.0.0.1\tlocalhost h.a.b h\n" + loopback6},
		"more hosts": {"h", "", netip.Addr{}, []ExtraHost{{"x", "1.2.3.4"}, {"y", "::2"}, {"x", "1.2.3.5"}},
			"127.0.0.1\tlocalhost h\n" + loopback6 + "1.2.3.4\tx\n::2\ty\n1.2.3.5\tx\n"},
	} {
		if got := string(Hosts(c.host, c.domain, c.own, c.extra)); got != c.want {
			t.Errorf("%s:\n%swant:\n%s", name, got, c.want)
		}
	}
}

func TestResolver(t *testing.T) {
	t.Parallel()
	const base = "# written by hand\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch old.example\noptions ndots:5\n"
	servers := []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("2620:fe::fe")}
	for name, c := range map[string]struct {
		r          Resolver
		has, lacks []string
	}{
		"servers": {Resolver{Servers: servers}, []string{"nameserver 9.9.9.9", "nameserver 2620:fe::fe", "search old.example", "options ndots:5"}, []string{"10.0.0"}},
		"search":  {Resolver{Search: []string{"a.b", "c.d"}}, []string{"nameserver 10.0.0.1", "search a.b c.d"}, []string{"old.example"}},
		"no search": {Resolver{Search: []string{"."}}, []string{"nameserver 10.0.0.2", "options ndots:5"},
			[]string{"search"}},
		"options":   {Resolver{Options: []string{"timeout:1", "rotate"}}, []string{"options timeout:1 rotate", "search old.example"}, []string{"ndots"}},
		"an option": {Resolver{Options: []string{}}, []string{"nameserver 10.0.0.1"}, []string{"options"}},
	} {
		got, err := c.r.Apply([]byte(base))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		lines := slices.DeleteFunc(strings.Split(string(got), "\n"), func(l string) bool { return strings.HasPrefix(l, "#") })
		for _, want := range c.has {
			if !slices.Contains(lines, want) {
				t.Errorf("%s: no %q in %q", name, want, lines)
			}
		}
		for _, not := range c.lacks {
			if strings.Contains(strings.Join(lines, "\n"), not) {
				t.Errorf("%s: %q in %q", name, not, lines)
			}
		}
	}
	if got, err := (Resolver{}).Apply([]byte(base)); err != nil || string(got) != base {
		t.Errorf("without changes: %q, %v", got, err)
	}
	if got, err := (Resolver{Servers: servers[:1]}).Apply(nil); err != nil || !strings.Contains(string(got), "nameserver 9.9.9.9\n") {
		t.Errorf("without a file: %q, %v", got, err)
	}
}

// A resolver on the host's loopback, which processes do not reach, is replaced by the router's address.
func TestReachable(t *testing.T) {
	t.Parallel()
	n := &Namespace{plan: plan{Gateway4: netip.MustParseAddr("10.213.37.1")}}
	for servers, want := range map[string]string{
		"":                             " invalid IP",
		"1.1.1.1 8.8.8.8":              "1.1.1.1 8.8.8.8 invalid IP",
		"127.0.0.53":                   "10.213.37.1 127.0.0.53",
		"127.0.0.1 1.1.1.1 ::1":        "10.213.37.1 1.1.1.1 127.0.0.1",
		"1.1.1.1 1.1.1.1":              "1.1.1.1 invalid IP",
		"::1 ::ffff:127.0.0.1 0.0.0.0": "10.213.37.1 ::1",
		"2001:db8::1":                  "2001:db8::1 invalid IP",
		"::":                           "10.213.37.1 ::",
	} {
		var list []netip.Addr
		for s := range strings.FieldsSeq(servers) {
			list = append(list, netip.MustParseAddr(s))
		}
		got, local := n.reachable(list)
		var texts []string
		for _, a := range got {
			texts = append(texts, a.String())
		}
		if text := strings.Join(texts, " ") + " " + local.String(); text != want {
			t.Errorf("%s: %s, want %s", servers, text, want)
		}
	}
}
