package fakeroot

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// secureNoSetuidFixup is SECBIT_NO_SETUID_FIXUP (capabilities(7)).
const secureNoSetuidFixup = 1 << 2

// fileCapabilities are those that follow the user id for files.
const fileCapabilities capabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_LINUX_IMMUTABLE | 1<<unix.CAP_MKNOD | 1<<unix.CAP_MAC_OVERRIDE

// capabilityWords returns how many structures of struct __user_cap_data_struct a version of the call has.
func capabilityWords(version uint32) int {
	switch version {
	case unix.LINUX_CAPABILITY_VERSION_1:
		return 1
	case unix.LINUX_CAPABILITY_VERSION_2, unix.LINUX_CAPABILITY_VERSION_3:
		return 2
	}
	return 0
}

func capGet(c *call) (int64, error) {
	header, err := get[unix.CapUserHeader](c, c.args[0])
	if err != nil {
		return 0, err
	}
	words := capabilityWords(header.Version)
	if words == 0 {
		if err := put(c, c.args[0], uint32(unix.LINUX_CAPABILITY_VERSION_3)); err != nil || c.args[1] == 0 {
			return 0, err
		}
		return 0, unix.EINVAL
	}
	cred := c.credentials()
	if header.Pid != 0 && int(header.Pid) != c.process() {
		cred = c.registry.of(int(header.Pid))
	}
	for i := range words {
		shift := 32 * i
		data := unix.CapUserData{Effective: uint32(cred.effective >> shift), Permitted: uint32(cred.permitted >> shift), Inheritable: uint32(cred.inheritable >> shift)}
		if err := put(c, c.args[1]+uint64(12*i), data); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func capSet(c *call) (int64, error) {
	header, err := get[unix.CapUserHeader](c, c.args[0])
	if err != nil {
		return 0, err
	}
	words := capabilityWords(header.Version)
	if words == 0 {
		return 0, unix.EINVAL
	}
	if header.Pid != 0 && int(header.Pid) != c.process() {
		return 0, unix.EPERM
	}
	var permitted, effective, inheritable capabilities
	for i := range words {
		data, err := get[unix.CapUserData](c, c.args[1]+uint64(12*i))
		if err != nil {
			return 0, err
		}
		shift := 32 * i
		permitted |= capabilities(data.Permitted) << shift
		effective |= capabilities(data.Effective) << shift
		inheritable |= capabilities(data.Inheritable) << shift
	}
	old := c.credentials()
	if permitted&^old.permitted != 0 || effective&^permitted != 0 || inheritable&^(old.inheritable|old.permitted) != 0 && !old.can(unix.CAP_SETPCAP) ||
		inheritable&^(old.inheritable|old.bounding) != 0 {
		return 0, unix.EPERM
	}
	return 0, c.become(func(now *credentials) {
		now.permitted, now.effective, now.inheritable = permitted, effective, inheritable
		now.ambient &= permitted & inheritable
	})
}

// lastCapability is the highest of this kernel's.
const lastCapability = unix.CAP_LAST_CAP

func control(c *call) (int64, error) {
	cred, n := c.credentials(), c.args[1]
	switch c.arg(0) {
	case unix.PR_GET_KEEPCAPS:
		if cred.keep {
			return 1, nil
		}
		return 0, nil
	case unix.PR_SET_KEEPCAPS:
		if n > 1 {
			return 0, unix.EINVAL
		}
		return 0, c.become(func(now *credentials) { now.keep = n == 1 })
	case unix.PR_GET_SECUREBITS:
		return int64(cred.secure), nil
	case unix.PR_SET_SECUREBITS:
		if !cred.can(unix.CAP_SETPCAP) {
			return 0, unix.EPERM
		}
		return 0, c.become(func(now *credentials) { now.secure = uint32(n) })
	case unix.PR_CAP_AMBIENT:
		return controlAmbient(c)
	}
	if n > lastCapability {
		return 0, unix.EINVAL
	}
	if c.arg(0) == unix.PR_CAPBSET_READ {
		if cred.bounding.has(uint(n)) {
			return 1, nil
		}
		return 0, nil
	}
	if !cred.can(unix.CAP_SETPCAP) { // PR_CAPBSET_DROP
		return 0, unix.EPERM
	}
	return 0, c.become(func(now *credentials) { now.bounding &^= 1 << n })
}

func controlAmbient(c *call) (int64, error) {
	cred, n := c.credentials(), c.args[2]
	if c.args[1] == unix.PR_CAP_AMBIENT_CLEAR_ALL {
		return 0, c.become(func(now *credentials) { now.ambient = 0 })
	}
	if n > lastCapability {
		return 0, unix.EINVAL
	}
	switch c.args[1] {
	case unix.PR_CAP_AMBIENT_IS_SET:
		if cred.ambient.has(uint(n)) {
			return 1, nil
		}
		return 0, nil
	case unix.PR_CAP_AMBIENT_RAISE:
		if !cred.permitted.has(uint(n)) || !cred.inheritable.has(uint(n)) {
			return 0, unix.EPERM
		}
		return 0, c.become(func(now *credentials) { now.ambient |= 1 << n })
	case unix.PR_CAP_AMBIENT_LOWER:
		return 0, c.become(func(now *credentials) { now.ambient &^= 1 << n })
	}
	return 0, unix.EINVAL
}

// fileCapability is the attribute security.capability (struct vfs_cap_data).
type fileCapability struct {
	permitted, inheritable capabilities
	effective              bool
}

// parseCapability reads an attribute of the second or third revision; false for others, which the kernel does not take.
func parseCapability(b []byte) (fileCapability, bool) {
	const v2, v3 = 0x02000000, 0x03000000
	if len(b) < 20 {
		return fileCapability{}, false
	}
	word := func(i int) capabilities { return capabilities(binary.LittleEndian.Uint32(b[4*i:])) }
	magic := binary.LittleEndian.Uint32(b)
	if version := magic &^ 0xffffff; (version != v2 || len(b) != 20) && (version != v3 || len(b) != 24) {
		return fileCapability{}, false
	}
	return fileCapability{permitted: word(1) | word(3)<<32, inheritable: word(2) | word(4)<<32, effective: magic&1 != 0}, true
}
