package userns

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// RefusedError is returned if the system does not let the user have a user namespace in which it is root. Cause names the setting that
// forbids it, as far as it can be known.
type RefusedError struct{ Cause string }

func (e *RefusedError) Error() string { return "enter user namespace: " + e.Cause }

// refused returns the error of a system call or a mount that the system did not let the user make.
func refused(err error) error { return &RefusedError{host{"/proc"}.cause(err)} }

// host is where the settings of the kernel are.
type host struct{ proc string }

// The settings that keep an ordinary user from making user namespaces, and those that limit their number.
const (
	appArmorSetting = "kernel.apparmor_restrict_unprivileged_userns"
	cloneSetting    = "kernel.unprivileged_userns_clone"
	limitSetting    = "user.max_user_namespaces"
)

// cause finds the setting that has led to an error.
func (h host) cause(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		err = number // without the name of the program that was to run
	}
	switch {
	case errors.Is(err, unix.ENOSPC), h.setting(limitSetting) == "0":
		return fmt.Sprintf("%v: the sysctl %s is %s", err, limitSetting, h.setting(limitSetting))
	case errors.Is(err, unix.EUSERS):
		return fmt.Sprintf("%v: user namespaces are nested too deep", err)
	case !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES):
		return err.Error()
	case h.setting(cloneSetting) == "0":
		return fmt.Sprintf("%v: the sysctl %s is 0", err, cloneSetting)
	case h.setting(appArmorSetting) == "1" && !h.filtered():
		return fmt.Sprintf("%v: AppArmor forbids it: the sysctl %s is 1, and no profile allows it to mica", err, appArmorSetting)
	case h.filtered():
		return fmt.Sprintf("%v: the seccomp profile of this container forbids it (in Kubernetes, RuntimeDefault does)", err)
	case h.confined() != "":
		return fmt.Sprintf("%v: the AppArmor profile %s of this container forbids it, or the kernel does", err, h.confined())
	}
	return err.Error()
}

// setting returns the value of a sysctl, "" if the kernel does not have it.
func (h host) setting(name string) string {
	data, err := os.ReadFile(h.proc + "/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// filtered reports whether a seccomp filter applies to this process.
func (h host) filtered() bool {
	status, err := os.ReadFile(h.proc + "/self/status")
	return err == nil && strings.Contains(string(status), "\nSeccomp:\t2")
}

// confined returns the name of the AppArmor profile that applies to this process, "" for none.
func (h host) confined() string {
	data, err := os.ReadFile(h.proc + "/self/attr/apparmor/current")
	if err != nil {
		return ""
	}
	name := strings.TrimSpace(strings.TrimRight(string(data), "\x00"))
	if name == "unconfined" {
		return ""
	}
	return name
}
