package runcmd

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli/command"
)

// runLabels are flags that are checked and have no effect: a container has no record.
type runLabels struct{ labels, files []string }

func (l *runLabels) add(fl *pflag.FlagSet) {
	fl.VarP(opts.NewListOptsRef(&l.labels, opts.ValidateLabel), "label", "l", "Set meta data on a container: checked, and shown nowhere")
	fl.Var(opts.NewListOptsRef(&l.files, nil), "label-file", "Read in a line delimited file of labels: checked, and shown nowhere")
}

func (l *runLabels) check() error {
	if _, err := opts.ReadKVStrings(l.files, l.labels); err != nil {
		return fmt.Errorf("--label-file: %w", err)
	}
	return nil
}

// refusedFlags are those that docker run has and that have no meaning without a daemon or for a container that is removed when it ends,
// with what to do instead.
var refusedFlags = map[string]string{
	"annotation": "",
	"attach":     ": redirect stdout and stderr in the shell",
	"detach":     ": mica has no daemon: run it with & or as a service (systemd-run mica run …)",
	"ip":         ": a container's address is given to it; --publish makes ports reachable", "ip6": ": a container's address is given to it",
	"link": ": containers do not see each other", "link-local-ip": ": a container's address is given to it",
	"log-driver": ": redirect stdout and stderr in the shell", "log-opt": ": redirect stdout and stderr in the shell",
	"network-alias": ": there are no named networks", "net-alias": ": there are no named networks",
	"storage-opt":    ": use a quota of the store's filesystem",
	"use-api-socket": ": there is no daemon", "volume-driver": ": use --volume with a path",
	"volumes-from": ": containers have no names: use --volume with a path",
}

// ignoredFlags have no effect on a container in the foreground.
var ignoredFlags = []string{
	"detach-keys", "disable-content-trust", "health-cmd", "health-interval", "health-retries", "health-start-interval", "health-start-period",
	"health-timeout", "no-healthcheck", "kernel-memory",
}

// isBool are those of them that take no value.
var isBool = map[string]bool{"detach": true, "use-api-socket": true, "disable-content-trust": true, "no-healthcheck": true}

var shorthands = map[string]string{"attach": "a", "detach": "d"}

// runRefused are flags of docker that mica does not support.
type runRefused struct {
	restart, mac, isolation string
	given                   []string // what there is to say of those that were given
}

func (r *runRefused) add(fl *pflag.FlagSet) {
	for name, instead := range refusedFlags {
		fl.VarP(&refusedFlag{refuse: func() { r.given = append(r.given, "--"+name+" is not supported"+instead) }, bool: isBool[name]}, name, shorthands[name], "Not supported")
	}
	for _, name := range ignoredFlags {
		fl.Var(&refusedFlag{bool: isBool[name]}, name, "Accepted, and not used")
	}
	command.Hide(fl, slices.Collect(maps.Keys(refusedFlags))...)
	command.Hide(fl, ignoredFlags...)
	for name := range isBool {
		fl.Lookup(name).NoOptDefVal = "true"
	}
	fl.StringVar(&r.restart, "restart", "no", "Restart policy: none but no")
	fl.StringVar(&r.mac, "mac-address", "", "Container MAC address: not supported")
	fl.StringVar(&r.isolation, "isolation", "", "Container isolation technology: default")
	command.Hide(fl, "restart", "mac-address", "isolation")
}

func (r *runRefused) check() error {
	if len(r.given) > 0 {
		return errors.New(r.given[0])
	}
	switch _, err := net.ParseMAC(strings.TrimSpace(r.mac)); {
	case r.mac != "" && err != nil:
		return fmt.Errorf("%s is not a valid mac address", r.mac)
	case r.mac != "":
		return errors.New("--mac-address is not supported: a container's addresses are given to it")
	case r.restart != "" && r.restart != "no":
		return errors.New("--restart is not supported: a container is removed when it ends: start it again from a script or a service")
	case r.isolation != "" && r.isolation != "default":
		return fmt.Errorf("invalid isolation: %q: use default", r.isolation)
	}
	return nil
}

// refusedFlag is a flag of docker's that mica has not, or that changes nothing.
type refusedFlag struct {
	refuse func() // nil for a flag that changes nothing
	bool   bool
}

func (r *refusedFlag) String() string { return "" }

// Type is what the help calls a value.
func (r *refusedFlag) Type() string {
	if r.bool {
		return "bool"
	}
	return "string"
}

// IsBoolFlag says that the flag needs no value.
func (r *refusedFlag) IsBoolFlag() bool { return r.bool }

// Set notes that the flag was given, and not turned off.
func (r *refusedFlag) Set(value string) error {
	if r.refuse != nil && (!r.bool || value != "false") {
		r.refuse()
	}
	return nil
}
