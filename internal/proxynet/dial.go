package proxynet

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
)

// compatible are the IPv4-compatible IPv6 addresses (RFC 4291, 2.5.5.1), with :: and ::1.
var compatible = netip.MustParsePrefix("::/96")

// refuseLoopback fails for addresses of the host's loopback, whatever name has led to them. Unspecified addresses are the loopback, too.
func refuseLoopback(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := at.Addr().Unmap(); ip.IsLoopback() || ip.IsUnspecified() || compatible.Contains(ip.WithZone("")) {
		return fmt.Errorf("%s is the host's loopback", ip)
	}
	return nil
}
