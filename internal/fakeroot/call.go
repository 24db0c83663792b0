package fakeroot

import (
	"errors"

	"golang.org/x/sys/unix"
)

// call is a system call that waits for its answer.
type call struct {
	notification
	*supervisor
	listener *listener
	abi      *abi

	cred     *credentials // those of the process, once asked for
	answered bool
	buffer   [maxPath]byte
}

// handler answers a call: with a value, or with an error. Its errors are numbers of the kernel's, errRun or errSent.
type handler func(*call) (int64, error)

var (
	errRun  = errors.New("the kernel does it") // what it does needs no pretence
	errSent = errors.New("answered")
)

// process is the thread that makes the call.
func (c *call) process() int { return int(c.pid) }

// arg returns an argument of 32 bits.
func (c *call) arg(n int) uint32 { return uint32(c.args[n]) }

// fd returns an argument that is a descriptor.
func (c *call) fd(n int) int32 { return int32(c.args[n]) }

// waits reports whether the process still waits: what was read of it is its own then.
func (c *call) waits() bool { return c.listener.waits(c.id) }

// answer sends what the handler of a call returns.
func (s *supervisor) answer(c *call) {
	c.supervisor = s
	value, err := int64(0), error(unix.ENOSYS)
	if a := s.abis[c.arch]; a != nil {
		c.abi = a
		if h := a.handlers[c.nr]; h != nil {
			value, err = h(c)
		}
	}
	if errors.Is(err, errSent) {
		c.answered = true
		return
	}
	r := response{id: c.id, value: value}
	var errno unix.Errno
	switch {
	case err == nil:
	case errors.Is(err, errRun):
		r.value, r.flags = 0, unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	case errors.As(err, &errno):
		r.value, r.errno = 0, -int32(errno)
	default:
		r.value, r.errno = 0, -int32(unix.EIO)
	}
	c.answered = true
	c.listener.send(r)
}
