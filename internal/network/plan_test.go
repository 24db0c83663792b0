package network

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// addresses are those of a host's interfaces, as net.InterfaceAddrs returns them.
func addresses(t *testing.T, list ...string) []net.Addr {
	t.Helper()
	var addrs []net.Addr
	for _, text := range list {
		ip, network, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, &net.IPNet{IP: ip, Mask: network.Mask})
	}
	return addrs
}

// A process gets the first network that the host is not part of.
func TestUnused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		local []string
		want  string
	}{
		"none":              {nil, "10.213.37.0"},
		"others":            {[]string{"127.0.0.1/8", "10.0.0.5/24", "fd00::1/64"}, "10.213.37.0"},
		"the first":         {[]string{"10.213.37.9/24"}, "172.30.213.0"},
		"around the first":  {[]string{"10.1.2.3/8"}, "172.30.213.0"},
		"within the first":  {[]string{"10.213.37.2/32"}, "172.30.213.0"},
		"beside the first":  {[]string{"10.213.37.4/30"}, "10.213.37.0"},
		"all but the last":  {[]string{"10.213.0.1/16", "172.16.0.1/12", "192.168.0.1/16"}, "10.37.213.0"},
		"all private space": {[]string{"10.0.0.1/8", "172.16.0.1/12", "192.168.0.1/16"}, "invalid IP"},
	} {
		if got := unused(addresses(t, c.local...)); got.String() != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestOffline(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		local []string
		want  bool
	}{
		{nil, true},
		{[]string{"127.0.0.1/8", "::1/128"}, true},
		{[]string{"127.0.0.1/8", "fe80::1/64", "169.254.3.4/16"}, true},
		{[]string{"127.0.0.1/8", "10.0.0.1/24"}, false},
		{[]string{"2001:db8::1/64"}, false},
	} {
		if got := offline(addresses(t, c.local...)); got != c.want {
			t.Errorf("%q: %t", c.local, got)
		}
	}
}

// The kernel's tables of routes have a line for each route; only one to everywhere counts.
func TestDefaultRoutes(t *testing.T) {
	t.Parallel()
	const header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	const everywhere6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003"
	for name, c := range map[string]struct {
		v4, v6       string
		want4, want6 bool
	}{
		"empty":                  {v4: header},
		"a default route":        {v4: header + "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", want4: true},
		"a network's":            {v4: header + "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"},
		"half of everything":     {v4: header + "tun0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000080\t0\t0\t0\n"},
		"a short line":           {v4: header + "eth0\t00000000\n"},
		"a default route of v6":  {v4: header, v6: everywhere6 + "     eth0\n", want6: true},
		"v6's unreachable route": {v4: header, v6: everywhere6 + "       lo\n"},
		"a short line of v6":     {v4: header, v6: "00 00\n"},
	} {
		dir := t.TempDir()
		if c.v6 != "" {
			if err := os.WriteFile(filepath.Join(dir, "ipv6_route"), []byte(c.v6), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "route"), []byte(c.v4), 0o600); err != nil {
			t.Fatal(err)
		}
		if got4, got6 := hasIPv4(dir), hasIPv6(dir); got4 != c.want4 || got6 != c.want6 {
			t.Errorf("%s: %t, %t", name, got4, got6)
		}
	}
	if none := t.TempDir(); hasIPv4(none) || hasIPv6(none) {
		t.Error("a kernel without tables has routes")
	}
}

// The plan for this host is whole, whatever this host has.
func TestNewPlan(t *testing.T) {
	t.Parallel()
	p, err := newPlan("/usr/bin/pasta")
	if err != nil {
		t.Fatal(err)
	}
	if p.Pasta != "/usr/bin/pasta" || p.Address4 != p.Gateway4.Next() || !p.Gateway4.Is4() {
		t.Errorf("%+v", p)
	}
	if p.Address6.IsValid() != p.Gateway6.IsValid() || p.Address6.IsValid() && p.Address6 != p.Gateway6.Next() {
		t.Errorf("%+v", p)
	}
	if address := HostAddress(); address.IsLoopback() {
		t.Errorf("%s is the host's address", address)
	}
	if gateway := Gateway(); gateway != HostAddress() && gateway != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("the gateway is %s", gateway)
	}
}
