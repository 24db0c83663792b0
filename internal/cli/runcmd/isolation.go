package runcmd

import (
	"cmp"
	"errors"
	"os"

	"github.com/docker/cli/opts"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/container"
)

// runIsolation are the flags that change what separates a container from the host.
type runIsolation struct {
	container.Isolation

	sysctls *opts.MapOpts
}

func (i *runIsolation) add(fl *pflag.FlagSet) {
	i.sysctls = opts.NewMapOpts(nil, opts.ValidateSysctl)
	fl.StringVar(&i.IPC, "ipc", "", "IPC mode to use (host, none, private)")
	fl.StringVar(&i.PID, "pid", "", "PID namespace to use: the container's own")
	fl.StringVar(&i.UTS, "uts", "", "UTS namespace to use (host)")
	fl.StringVar(&i.UserNS, "userns", "", "User namespace to use (host)")
	fl.StringVar(&i.Domainname, "domainname", "", "Container NIS domain name")
	fl.Var(i.sysctls, "sysctl", "Sysctl options")
	fl.Var(opts.NewListOptsRef(&i.Security, nil), "security-opt", "Security Options")
	command.Hide(fl, "pid")
}

// check finds mistakes before anything is pulled.
func (i *runIsolation) check(f *runFlags) error {
	i.read()
	var err error
	if i.Security, err = container.ReadProfiles(i.Security); err != nil {
		return err
	}
	_, err = i.Sandbox()
	switch {
	case err != nil:
		return err
	case i.UTS == "host" && f.hostname != "":
		return errors.New("conflicting options: hostname and the UTS mode")
	}
	return i.Check()
}

// read takes over what the flags have collected.
func (i *runIsolation) read() { i.Sysctls = i.sysctls.GetAll() }

// containerName is the hostname of a container: what the flags say, or the host's with its namespace or its network, or the container's ID.
func (f *runFlags) containerName(id string) string {
	if f.hostname == "" && (f.isolation.UTS == "host" || f.network == "host") {
		if host, err := os.Hostname(); err == nil {
			return host
		}
	}
	return cmp.Or(f.hostname, f.name, id)
}
