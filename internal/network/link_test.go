package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// parsed returns the attributes of a message of RTM_NEWLINK, as Go's own parser reads them.
func parsed(t *testing.T, parts ...[]byte) map[uint16][]byte {
	t.Helper()
	body := slices.Concat(parts...)
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, unix.RTM_NEWLINK)
	m = append(append(m, make([]byte, 10)...), body...)
	list, err := syscall.ParseNetlinkMessage(m)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	attributes, err := syscall.ParseNetlinkRouteAttr(&list[0])
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint16][]byte{}
	for _, a := range attributes {
		found[a.Attr.Type] = a.Value
	}
	return found
}

// Attributes are aligned to four bytes, whatever their size.
func TestNetlinkAttributes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "a", "ab", "abc", "abcd", "inside"} {
		got := parsed(t, linkHeader(7, unix.IFF_UP), text(unix.IFLA_IFNAME, name), number(unix.IFLA_MTU, mtu))
		if want := append([]byte(name), 0); !bytes.Equal(got[unix.IFLA_IFNAME], want) {
			t.Errorf("the name is % x, want % x", got[unix.IFLA_IFNAME], want)
		}
		if value := binary.NativeEndian.Uint32(got[unix.IFLA_MTU]); value != mtu {
			t.Errorf("after %q, the MTU is %d", name, value)
		}
	}
	nested := attribute(1, attribute(2, 'x')...)
	if len(nested) != 12 || binary.NativeEndian.Uint16(nested) != 12 {
		t.Errorf("a nested attribute: % x", nested)
	}
	header := linkHeader(7, unix.IFF_UP)
	if index := binary.NativeEndian.Uint32(header[4:]); len(header) != unix.SizeofIfInfomsg || index != 7 {
		t.Errorf("a header: % x", header)
	}
}

func TestRouteHeader(t *testing.T) {
	t.Parallel()
	b := routeHeader(unix.AF_INET6, 96, unix.RTN_UNREACHABLE, unix.RTNH_F_ONLINK)
	if len(b) != unix.SizeofRtMsg || b[0] != unix.AF_INET6 || b[1] != 96 || b[7] != unix.RTN_UNREACHABLE || binary.NativeEndian.Uint32(b[8:]) != unix.RTNH_F_ONLINK {
		t.Errorf("% x", b)
	}
	if family(netip.MustParseAddr("10.0.0.1")) != unix.AF_INET || family(netip.MustParseAddr("::1")) != unix.AF_INET6 {
		t.Error("a family is wrong")
	}
}

// The kernel's errors come back with what was tried. No interface is changed, since none has that name.
func TestMissingInterface(t *testing.T) {
	t.Parallel()
	const name = "mica-missing"
	for want, try := range map[string]func() error{
		"bring mica-missing up: ":                   func() error { return setUp(name) },
		"give mica-missing the address 10.0.0.1/30": func() error { return addAddress(name, netip.MustParsePrefix("10.0.0.1/30")) },
		"add a default route by mica-missing: ":     func() error { return addDefault(name, netip.MustParseAddr("10.0.0.1")) },
		"":                                          func() error { return awaitCarrier(name) },
	} {
		if err := try(); !errors.Is(err, unix.ENODEV) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := setUp(strings.Repeat("x", 16)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a name that is too long: %v", err)
	}
	if err := setSysctl("nosuch", "1"); err == nil {
		t.Error("a sysctl that does not exist is set")
	}
}

func TestLinkIndex(t *testing.T) {
	t.Parallel()
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if got, err := linkIndex(i.Name); err != nil || got != i.Index {
			t.Errorf("%s: %d, %v; want %d", i.Name, got, err, i.Index)
		}
	}
}

// A request without acknowledgement of the kernel is an error, and an unknown one has the kernel's.
func TestRequest(t *testing.T) {
	t.Parallel()
	if err := request(unix.RTM_GETLINK, unix.NLM_F_DUMP, linkHeader(0, 0)); err == nil || err.Error() != "unexpected response from the kernel" {
		t.Errorf("a list: %v", err)
	}
	if err := request(unix.RTM_GETLINK, 0, linkHeader(1<<30, 0)); !errors.Is(err, unix.ENODEV) {
		t.Errorf("a missing interface: %v", err)
	}
}

// Without IPv6, nothing of IPv6 is configured.
func TestEachFamily(t *testing.T) {
	t.Parallel()
	p := plan{Address4: netip.MustParseAddr("10.0.0.2"), Gateway4: netip.MustParseAddr("10.0.0.1")}
	count := func() (list []string) {
		_ = p.eachFamily(func(address, gateway netip.Addr, bits int) error {
			list = append(list, netip.PrefixFrom(address, bits).String()+" by "+gateway.String())
			return nil
		})
		return list
	}
	if got := count(); !slices.Equal(got, []string{"10.0.0.2/30 by 10.0.0.1"}) {
		t.Errorf("%q", got)
	}
	if err := p.useAtOnce(); err != nil {
		t.Error(err)
	}
	p.Address6, p.Gateway6 = netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::1")
	if got := count(); !slices.Equal(got, []string{"10.0.0.2/30 by 10.0.0.1", "fd00::2/64 by fd00::1"}) {
		t.Errorf("%q", got)
	}
	stop := errors.New("stop")
	if err := p.eachFamily(func(netip.Addr, netip.Addr, int) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}
