package fakeroot

import (
	"bytes"

	"golang.org/x/sys/unix"
)

func execve(c *call) (int64, error) { return c.execute(unix.AT_FDCWD, c.args[0], 0) }

func execveat(c *call) (int64, error) { return c.execute(c.fd(0), c.args[1], c.arg(4)) }

// execute gives the process the credentials that the program has by its owner, its mode and its capabilities, which the kernel does not see.
func (c *call) execute(dir int32, name uint64, flags uint32) (int64, error) {
	cred := c.credentials()
	if cred.steady() && c.table.setID.Load() == 0 {
		return 0, errRun
	}
	f, err := c.file(dir, name, flags)
	if err != nil {
		return 0, err
	}
	var real unix.Statx_t
	if err := c.stat(f, &real); err != nil || real.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, errRun
	}
	st := c.seen(&real)
	if !cred.allowed(st, mayEnter) {
		return 0, unix.EACCES
	}
	capability, _ := parseCapability(c.table.capability(&real))
	if (st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 || capability != fileCapability{}) && c.isScript(f) {
		st.Mode &^= unix.S_ISUID | unix.S_ISGID
		capability = fileCapability{}
	}
	if err := c.become(func(now *credentials) { now.execute(st, capability) }); err != nil {
		return 0, err
	}
	return 0, errRun
}

// steady reports whether root keeps its credentials when it executes an ordinary program.
func (c *credentials) steady() bool {
	return c.uid == sameIDs(0) && c.gid == sameIDs(c.gid.real) && c.permitted == c.bounding|c.inheritable && c.effective == c.permitted && !c.keep && c.ambient == 0
}

// execute changes credentials as execve(2) does (capabilities(7)).
func (c *credentials) execute(st *unix.Statx_t, file fileCapability) {
	if st.Mode&unix.S_ISUID != 0 {
		c.uid.effective = st.Uid
	}
	if st.Mode&unix.S_ISGID != 0 && st.Mode&unix.S_IXGRP != 0 {
		c.gid.effective = st.Gid
	}
	c.uid.saved, c.uid.fs = c.uid.effective, c.uid.effective
	c.gid.saved, c.gid.fs = c.gid.effective, c.gid.effective
	c.keep = false
	switch {
	case c.uid.real == 0 || c.uid.effective == 0:
		c.permitted, c.ambient = c.bounding|c.inheritable, 0
		if c.effective = 0; c.uid.effective == 0 {
			c.effective = c.permitted
		}
	case file != fileCapability{}:
		c.permitted, c.ambient = file.permitted&c.bounding|file.inheritable&c.inheritable, 0
		if c.effective = 0; file.effective {
			c.effective = c.permitted
		}
	default:
		c.permitted, c.effective = c.ambient, c.ambient
	}
}

// isScript reports whether a program is one that another interprets, which the kernel gives nothing.
func (c *call) isScript(f file) bool {
	fd, err := unix.Open(c.locate(f), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	var head [2]byte
	n, err := unix.Pread(fd, head[:], 0)
	return err == nil && bytes.Equal(head[:n], []byte("#!"))
}
