package fakeroot

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/crash"
)

// notification is struct seccomp_notif: a call that waits.
type notification struct {
	id   uint64
	pid  uint32 // of the thread
	_    uint32
	nr   int32
	arch uint32
	_    uint64
	args [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// descriptor is struct seccomp_notif_addfd: a descriptor that the waiting process gets.
type descriptor struct {
	id          uint64
	flags       uint32
	source      uint32
	target      uint32
	targetFlags uint32
}

// listener is the descriptor by which a supervisor gets the calls of a filter and answers them.
type listener struct {
	fd    uintptr
	ended atomic.Bool

	mu      sync.Mutex
	failure error // of this program, when it answered a call
}

func (l *listener) ioctl(request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, l.fd, request, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// receive waits for a call. It returns false when there will be no more.
func (l *listener) receive(n *notification) bool {
	for !l.ended.Load() {
		*n = notification{}
		err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n)) //nolint:gosec // a call without a wrapper
		switch {
		case err == nil:
			return true
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOENT): // the process was killed; from Linux 6.11, or all processes have ended
			poll := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
			if _, err := unix.Poll(poll, 0); err == nil && poll[0].Revents&unix.POLLHUP != 0 {
				return false
			}
		default:
			return false
		}
	}
	return false
}

// waits reports whether the process still waits for the answer to a call: its number is not that of another process then.
func (l *listener) waits(id uint64) bool {
	err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) //nolint:gosec // as above
	return err == nil
}

// send answers a call. A process that was killed needs no answer.
func (l *listener) send(r response) {
	_ = l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) //nolint:gosec // as above
}

// sendFile answers a call with a descriptor of a file.
func (l *listener) sendFile(id uint64, fd int, flags uint32) error {
	d := descriptor{id: id, flags: unix.SECCOMP_ADDFD_FLAG_SEND, source: uint32(fd), targetFlags: flags}
	err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&d)) //nolint:gosec // as above
	return err
}

// serve answers calls by several threads, until stop is closed. It returns an error if one could not be answered.
func (l *listener) serve(answer func(*call), stop <-chan struct{}) error {
	// The kernel wakes the one that waits for the other on the same processor (from Linux 6.6).
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, l.fd, unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	var wg sync.WaitGroup
	threads := map[int]bool{}
	for range max(4, runtime.NumCPU()) {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tid := unix.Gettid()
			l.mu.Lock()
			threads[tid] = true
			l.mu.Unlock()
			l.work(answer)
			l.mu.Lock()
			delete(threads, tid)
			l.mu.Unlock()
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	select {
	case <-stop:
	case <-ended:
	}
	l.ended.Store(true)
	for {
		// A signal that Go's runtime uses itself ends the wait for a call. It is repeated: a thread may not have begun to wait.
		l.mu.Lock()
		for tid := range threads {
			_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
		}
		l.mu.Unlock()
		select {
		case <-ended:
			return l.failure
		case <-time.After(time.Millisecond):
		}
	}
}

// work answers calls. One that cannot be answered fails.
func (l *listener) work(answer func(*call)) {
	c := &call{listener: l}
	for l.receive(&c.notification) {
		c.answered, c.cred = false, nil
		err := crash.Guard(func() error { answer(c); return nil })()
		if err == nil {
			continue
		}
		l.mu.Lock()
		l.failure = err
		l.mu.Unlock()
		if !c.answered {
			l.send(response{id: c.id, errno: -int32(unix.EIO)})
		}
	}
}
