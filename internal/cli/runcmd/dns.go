package runcmd

import (
	"net/netip"

	"github.com/docker/cli/opts"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/network"
)

// runDNS are the flags that change /etc/resolv.conf.
type runDNS struct{ servers, search, options []string }

func (d *runDNS) add(fl *pflag.FlagSet) {
	fl.Var(opts.NewListOptsRef(&d.servers, opts.ValidateIPAddress), "dns", "Set custom DNS servers")
	fl.Var(opts.NewListOptsRef(&d.search, opts.ValidateDNSSearch), "dns-search", "Set custom DNS search domains")
	options := opts.NewListOptsRef(&d.options, nil)
	fl.Var(options, "dns-option", "Set DNS options")
	fl.Var(options, "dns-opt", "Set DNS options")
	command.Hide(fl, "dns-opt")
}

func (d *runDNS) resolver() network.Resolver {
	r := network.Resolver{Search: d.search, Options: d.options}
	for _, s := range d.servers {
		if addr, err := netip.ParseAddr(s); err == nil {
			r.Servers = append(r.Servers, addr)
		}
	}
	return r
}
