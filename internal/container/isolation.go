package container

import (
	"errors"
	"fmt"
	"strings"

	"github.com/micabuild/mica/internal/runtimespec"
)

// Isolation is what separates a container from the host, in the words of docker run's flags.
type Isolation struct {
	IPC, PID, UTS, UserNS string // modes of namespaces
	Domainname            string
	Sysctls               map[string]string
	Security              []string // --security-opt, with the text of a profile (see ReadProfiles)
	// MaskedPaths and ReadonlyPaths are the paths of /proc and /sys that are hidden and read-only, nil for Docker's.
	MaskedPaths, ReadonlyPaths []string
}

// Check refuses modes of namespaces that a container cannot have.
func (i *Isolation) Check() error {
	ofContainer := func(mode string) bool { return strings.HasPrefix(mode, "container:") }
	switch {
	case ofContainer(i.IPC) || ofContainer(i.PID):
		return errors.New("the namespaces of another container are not supported")
	case i.IPC != "" && i.IPC != "private" && i.IPC != "shareable" && i.IPC != "none" && i.IPC != "host":
		return fmt.Errorf("invalid IPC mode: %s", i.IPC)
	case i.PID == "host":
		return errors.New("--pid host is not possible: mica's processes have a pid namespace that ends with mica: leave it out")
	case i.PID != "":
		return errors.New("--pid: invalid PID mode")
	case i.UTS != "" && i.UTS != "host":
		return errors.New("--uts: invalid UTS mode")
	case i.UserNS != "" && i.UserNS != "host":
		return errors.New("--userns: invalid USER mode")
	}
	return nil
}

// Sandbox is the isolation of a process.
func (i *Isolation) Sandbox() (runtimespec.Isolation, error) {
	s := runtimespec.Isolation{
		HostIPC: i.IPC == "host", NoShm: i.IPC == "none", HostUTS: i.UTS == "host", Domainname: i.Domainname, Sysctls: i.Sysctls,
		MaskedPaths: i.MaskedPaths, ReadonlyPaths: i.ReadonlyPaths,
	}
	return s, securityOptions(i.Security, &s)
}
