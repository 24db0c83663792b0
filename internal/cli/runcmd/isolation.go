package runcmd

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/runtimespec"
)

// runIsolation are the flags that change what separates a container from the host.
type runIsolation struct {
	ipc, pid, uts, userns, domainname string
	sysctls                           *opts.MapOpts
	security                          []string
}

func (i *runIsolation) add(fl *pflag.FlagSet) {
	i.sysctls = opts.NewMapOpts(nil, opts.ValidateSysctl)
	fl.StringVar(&i.ipc, "ipc", "", "IPC mode to use (host, none, private)")
	fl.StringVar(&i.pid, "pid", "", "PID namespace to use: the container's own")
	fl.StringVar(&i.uts, "uts", "", "UTS namespace to use (host)")
	fl.StringVar(&i.userns, "userns", "", "User namespace to use (host)")
	fl.StringVar(&i.domainname, "domainname", "", "Container NIS domain name")
	fl.Var(i.sysctls, "sysctl", "Sysctl options")
	fl.Var(opts.NewListOptsRef(&i.security, nil), "security-opt", "Security Options")
	command.Hide(fl, "pid")
}

// check refuses what cannot be, before anything is pulled.
func (i *runIsolation) check(f *runFlags) error {
	_, err := i.isolation()
	switch {
	case err != nil:
		return err
	case i.uts == "host" && f.hostname != "":
		return errors.New("conflicting options: hostname and the UTS mode")
	}
	return i.checkNamespaces()
}

func (i *runIsolation) checkNamespaces() error {
	ofContainer := func(mode string) bool { return strings.HasPrefix(mode, "container:") }
	switch {
	case ofContainer(i.ipc) || ofContainer(i.pid):
		return errors.New("namespaces of another container cannot be joined: mica's containers have no names")
	case i.ipc != "" && i.ipc != "private" && i.ipc != "shareable" && i.ipc != "none" && i.ipc != "host":
		return fmt.Errorf("Invalid IPC mode: %s", i.ipc) //nolint:staticcheck // Docker's words
	case i.pid == "host":
		return errors.New("--pid host is not possible: mica's processes have a pid namespace that ends with mica: leave it out")
	case i.pid != "":
		return errors.New("--pid: invalid PID mode")
	case i.uts != "" && i.uts != "host":
		return errors.New("--uts: invalid UTS mode")
	case i.userns != "" && i.userns != "host":
		return errors.New("--userns: invalid USER mode")
	}
	return nil
}

// isolation is what the flags come to.
func (i *runIsolation) isolation() (runtimespec.Isolation, error) {
	s := runtimespec.Isolation{
		HostIPC: i.ipc == "host", NoShm: i.ipc == "none", HostUTS: i.uts == "host", Domainname: i.domainname, Sysctls: i.sysctls.GetAll(),
	}
	return s, securityOptions(i.security, &s)
}

// containerName is the hostname of a container: what the flags say, or the host's with its namespace or its network, or the container's ID.
func (f *runFlags) containerName(id string) string {
	if f.hostname == "" && (f.isolation.uts == "host" || f.network == "host") {
		if host, err := os.Hostname(); err == nil {
			return host
		}
	}
	return cmp.Or(f.hostname, f.name, id)
}
