package runtimespec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Isolation is how a process is separated from the host. The zero value is Docker's default.
type Isolation struct {
	HostIPC, HostUTS bool   // the host's namespaces
	NoShm            bool   // no /dev/shm
	Domainname       string // of NIS
	Sysctls          map[string]string
	NoNewPrivileges  bool
	NoSeccomp        bool   // all system calls
	SeccompProfile   string // in place of Docker's, in its form
	AppArmorProfile  string
	// MaskedPaths and ReadonlyPaths are the paths of /proc and /sys that are hidden and read-only, each nil for Docker's.
	MaskedPaths, ReadonlyPaths []string
}

// isolate applies the process's Isolation to a specification.
func (o *Options) isolate(s *specs.Spec) error {
	i := o.Isolation
	shared := func(ns specs.LinuxNamespace) bool {
		return i.HostIPC && ns.Type == specs.IPCNamespace || i.HostUTS && ns.Type == specs.UTSNamespace
	}
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, shared)
	s.Process.NoNewPrivileges, s.Process.ApparmorProfile = i.NoNewPrivileges, i.AppArmorProfile
	if i.HostUTS {
		s.Hostname = ""
	}
	if err := o.checkSysctls(); err != nil {
		return err
	}
	s.Linux.Sysctl = i.Sysctls
	o.setDomainname(s)
	if !o.Privileged {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = i.hiddenPaths()
	}
	var err error
	if s.Linux.Seccomp, err = o.seccomp(s); err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	return nil
}

func (i *Isolation) hiddenPaths() (masked, readonly []string) {
	masked, readonly = HiddenPaths()
	if i.MaskedPaths != nil {
		masked = i.MaskedPaths
	}
	if i.ReadonlyPaths != nil {
		readonly = i.ReadonlyPaths
	}
	return masked, readonly
}

// checkSysctls rejects sysctls of namespaces that are the host's: not every runtime does.
func (o *Options) checkSysctls() error {
	for name := range o.Isolation.Sysctls {
		switch {
		case strings.HasPrefix(name, "net."):
			if o.HostNetwork {
				return fmt.Errorf("sysctl %q not allowed in host network namespace", name)
			}
		case o.Isolation.HostIPC:
			return fmt.Errorf("sysctl %q not allowed in host ipc namespace", name)
		}
	}
	return nil
}

// setDomainname sets the NIS domain name by the field of the specification, which runc has since 1.2, or as root by a sysctl,
// which crun rejects.
func (o *Options) setDomainname(s *specs.Spec) {
	name := o.Isolation.Domainname
	switch {
	case name == "" || o.Isolation.HostUTS:
	case o.Host.Crun || o.Host.Nested:
		s.Domainname = name
	default:
		with := map[string]string{"kernel.domainname": name}
		for k, v := range s.Linux.Sysctl {
			with[k] = v
		}
		s.Linux.Sysctl = with
	}
}

// seccomp returns the filter of system calls, nil for none.
func (o *Options) seccomp(s *specs.Spec) (*specs.LinuxSeccomp, error) {
	i := o.Isolation
	switch {
	case i.SeccompProfile != "":
		return seccomp.LoadProfile(i.SeccompProfile, s)
	case i.NoSeccomp, o.Privileged:
		return nil, nil //nolint:nilnil // none
	}
	return seccompFilter(s)
}
