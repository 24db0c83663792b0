package network

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParsePorts(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string][]Port{
		"80":                         {{Protocol: "tcp", Port: 80}},
		"80/udp":                     {{Protocol: "udp", Port: 80}},
		"8080:80":                    {{"tcp", 80, "", 8080, 8080}},
		"8080:80/udp":                {{"udp", 80, "", 8080, 8080}},
		"127.0.0.1:8080:80":          {{"tcp", 80, "127.0.0.1", 8080, 8080}},
		"127.0.0.1::80":              {{"tcp", 80, "127.0.0.1", 0, 0}},
		"[::1]:8080:80":              {{"tcp", 80, "::1", 8080, 8080}},
		"8000-8010:80":               {{"tcp", 80, "", 8000, 8010}},
		"8000-8001:9000-9001":        {{"tcp", 9000, "", 8000, 8000}, {"tcp", 9001, "", 8001, 8001}},
		"9000-9001":                  {{Protocol: "tcp", Port: 9000}, {Protocol: "tcp", Port: 9001}},
		"127.0.0.1:8000-8001:80/udp": {{"udp", 80, "127.0.0.1", 8000, 8001}},
	} {
		if got, err := ParsePorts([]string{spec}); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", spec, got, err, want)
		}
	}
	if got, err := ParsePorts([]string{"1:2", "3:4"}); err != nil || len(got) != 2 || got[1].String() != "4/tcp" {
		t.Errorf("two: %v, %v", got, err)
	}
	if got, err := ParsePorts(nil); err != nil || got != nil {
		t.Errorf("none: %v, %v", got, err)
	}
}

func TestParsePortsRefuses(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"":                    "no port specified",
		"x":                   "invalid containerPort: x",
		"8080:":               "no port specified: 8080:",
		"x:80":                "invalid hostPort: x",
		"70000":               "invalid containerPort: 70000",
		"70000:80":            "invalid hostPort: 70000",
		"-1:80":               "invalid hostPort: -1",
		"8001-8000:80":        "invalid hostPort: 8001-8000",
		"8000-8001:9000-9002": "invalid ranges specified for container and host Ports: 9000-9002 and 8000-8001",
		"host:80:80":          "invalid IP address: host",
		"80/icmp":             "invalid proto: icmp",
		"80/sctp":             "publish 80/sctp: protocol sctp is not supported: use tcp or udp",
	} {
		if _, err := ParsePorts([]string{"1:1", spec}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", spec, err, want)
		}
	}
}

// Of a range of the host's ports, the first that is free is used.
func TestPublishRange(t *testing.T) { // not beside tests that start processes: these have copies of all sockets for a moment
	n := &Namespace{plan: plan{Address4: netip.MustParseAddr("192.0.2.2")}}
	t.Cleanup(func() { _ = n.Close() })
	for _, protocol := range []string{"tcp", "udp"} {
		taken, end, err := n.Publish(t.Context(), Port{Protocol: protocol, Port: 80, HostIP: "127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		port := portOf(taken)
		next, _, err := n.Publish(t.Context(), Port{protocol, 80, "127.0.0.1", port, 1<<16 - 1})
		if err != nil || portOf(next) <= port {
			t.Errorf("%s: %v after %v, %v", protocol, next, taken, err)
		}
		if _, _, err := n.Publish(t.Context(), Port{protocol, 80, "127.0.0.1", port, port}); err == nil || !strings.HasSuffix(err.Error(), "bind: address already in use") {
			t.Errorf("%s: a port that is taken: %v", protocol, err)
		}
		end()
		if _, _, err := n.Publish(t.Context(), Port{protocol, 80, "127.0.0.1", port, port}); err != nil {
			t.Errorf("%s: a port that is free again: %v", protocol, err)
		}
	}
	_, _, err := n.Publish(t.Context(), Port{"tcp", 80, "192.0.2.1", 0, 0})
	if err == nil || !strings.HasPrefix(err.Error(), "publish 80/tcp: listen on port 192.0.2.1:0 of the host: ") {
		t.Errorf("an address of another host: %v", err)
	}
}

// Published ports end with the namespace.
func TestPublishEnds(t *testing.T) {
	t.Parallel()
	n := &Namespace{plan: plan{Address4: netip.MustParseAddr("192.0.2.2")}}
	at, _, err := n.Publish(t.Context(), Port{Protocol: "tcp", Port: 80, HostIP: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", at.String()); err == nil {
		_ = c.Close()
		t.Error("the host still listens")
	}
	if at, _, err := n.Publish(t.Context(), Port{Protocol: "tcp", Port: 80, HostIP: "127.0.0.1"}); err == nil {
		if c, err := net.Dial("tcp", at.String()); err == nil {
			_ = c.Close()
			t.Error("a closed namespace listens")
		}
	}
}
