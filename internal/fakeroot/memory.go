package fakeroot

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxPath is PATH_MAX.
const maxPath = 4096

// read reads memory of the process that makes the call.
func (c *call) read(to []byte, from uint64) error {
	if len(to) == 0 {
		return nil
	}
	if n, err := c.readSome(to, from); err != nil || n != len(to) {
		return unix.EFAULT
	}
	return nil
}

func (c *call) readSome(to []byte, from uint64) (int, error) {
	local := unix.Iovec{Base: &to[0]}
	local.SetLen(len(to))
	return unix.ProcessVMReadv(c.process(), []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(from), Len: len(to)}}, 0)
}

// write writes memory of the process that makes the call, if it still waits.
func (c *call) write(to uint64, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if !c.waits() {
		return unix.ESRCH
	}
	local := unix.Iovec{Base: &data[0]}
	local.SetLen(len(data))
	n, err := unix.ProcessVMWritev(c.process(), []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(to), Len: len(data)}}, 0)
	if err != nil || n != len(data) {
		return unix.EFAULT
	}
	return nil
}

// str reads a string that ends with a zero, which is as long as a path may be.
func (c *call) str(from uint64) (string, error) {
	const page = 4096
	for n := 0; n < maxPath; {
		// A page is there as a whole, or it is not.
		more := min(maxPath-n, page-int((from+uint64(n))%page))
		got, err := c.readSome(c.buffer[n:n+more], from+uint64(n))
		if err != nil || got <= 0 {
			return "", unix.EFAULT
		}
		if end := bytes.IndexByte(c.buffer[n:n+got], 0); end >= 0 {
			return string(c.buffer[:n+end]), nil
		}
		n += got
	}
	return "", unix.ENAMETOOLONG
}

// asBytes returns the memory of a structure.
func asBytes[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) //nolint:gosec // structures of the kernel, without pointers
}

// get reads a structure.
func get[T any](c *call, from uint64) (T, error) {
	var v T
	err := c.read(asBytes(&v), from)
	return v, err
}

// put writes a structure.
func put[T any](c *call, to uint64, v T) error { return c.write(to, asBytes(&v)) }
