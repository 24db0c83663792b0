package userns

import "golang.org/x/sys/unix"

// Has reports whether this process has all of these capabilities (unix.CAP_SYS_ADMIN, …) in its user namespace.
func Has(capabilities ...uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	for _, c := range capabilities {
		if data[c/32].Effective&(1<<(c%32)) == 0 {
			return false
		}
	}
	return true
}
