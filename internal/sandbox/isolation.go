package sandbox

import (
	"fmt"
	"os"
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
	OpenSystemPaths  bool   // nothing of /proc and /sys is hidden or read-only
	NoSeccomp        bool   // all system calls
	SeccompProfile   string // in place of Docker's, in its form
	AppArmorProfile  string
}

// isolate applies the process's Isolation to a specification.
func (b *bundle) isolate(s *specs.Spec) error {
	i := b.p.Isolation
	shared := func(ns specs.LinuxNamespace) bool {
		return i.HostIPC && ns.Type == specs.IPCNamespace || i.HostUTS && ns.Type == specs.UTSNamespace
	}
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, shared)
	s.Process.NoNewPrivileges, s.Process.ApparmorProfile = i.NoNewPrivileges, i.AppArmorProfile
	if i.HostUTS {
		s.Hostname = ""
	}
	if err := b.checkSysctls(); err != nil {
		return err
	}
	s.Linux.Sysctl = i.Sysctls
	b.setDomainname(s)
	if !b.p.Privileged && !i.OpenSystemPaths {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
	}
	var err error
	if s.Linux.Seccomp, err = b.seccomp(s); err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	return nil
}

// checkSysctls rejects sysctls of namespaces that are the host's: not every runtime does.
func (b *bundle) checkSysctls() error {
	for name := range b.p.Isolation.Sysctls {
		switch {
		case strings.HasPrefix(name, "net."):
			if b.onHostNetwork() {
				return fmt.Errorf("sysctl %q not allowed in host network namespace", name)
			}
		case b.p.Isolation.HostIPC:
			return fmt.Errorf("sysctl %q not allowed in host ipc namespace", name)
		}
	}
	return nil
}

// setDomainname sets the NIS domain name by the field of the specification, which runc has since 1.2, or as root by a sysctl,
// which crun rejects.
func (b *bundle) setDomainname(s *specs.Spec) {
	name := b.p.Isolation.Domainname
	switch {
	case name == "" || b.p.Isolation.HostUTS:
	case b.crun || b.host.Nested():
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
func (b *bundle) seccomp(s *specs.Spec) (*specs.LinuxSeccomp, error) {
	i := b.p.Isolation
	switch {
	case i.SeccompProfile != "":
		return seccomp.LoadProfile(i.SeccompProfile, s)
	case i.NoSeccomp, b.p.Privileged:
		return nil, nil //nolint:nilnil // none
	}
	return seccompFilter(s)
}

// ipcMounts returns the mounts of /dev/shm and /dev/mqueue: the process's own or the host's.
func (b *bundle) ipcMounts() []specs.Mount {
	i := b.p.Isolation
	queues := specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}}
	if i.HostIPC {
		return b.hostIPCMounts(queues)
	}
	list := []specs.Mount{queues}
	if i.NoShm {
		return list
	}
	return append([]specs.Mount{
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", b.shmSize()}},
	}, list...)
}

// hostIPCMounts returns those of the host. Only root can mount the queues of a namespace that the user does not own.
func (b *bundle) hostIPCMounts(queues specs.Mount) []specs.Mount {
	list := []specs.Mount{b.bind("/dev/shm", "/dev/shm", false)}
	if !b.host.Nested() {
		return append(list, queues)
	}
	if _, err := os.Stat("/dev/mqueue"); err == nil {
		list = append(list, b.bind("/dev/mqueue", "/dev/mqueue", false))
	}
	return list
}
