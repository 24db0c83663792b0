package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/crash"
)

// Counted is the cgroup for a container whose counters can be read after its end, which are those of path. A runtime removes the cgroup
// of a container with it. In version 2 the counters of a cgroup are also counted above it, so the container gets a cgroup inside path, which
// the caller removes. In version 1 it gets path itself.
func Counted(path string) string {
	if (hierarchy{Root}).unified() {
		return filepath.Join(path, "container")
	}
	return path
}

// OOMWatch reports the processes of a cgroup that the kernel kills for lack of memory.
type OOMWatch struct {
	file    *os.File // of notifications; nil for none
	ended   chan struct{}
	counter string // the file with the number of processes
	seen    uint64
	killed  func()
}

// WatchOOM calls killed for the processes of a cgroup that the kernel kills for lack of memory, until it is closed.
func WatchOOM(path string, killed func()) (*OOMWatch, error) {
	return hierarchy{Root}.watchOOM(path, killed)
}

func (h hierarchy) watchOOM(path string, killed func()) (*OOMWatch, error) {
	w := &OOMWatch{ended: make(chan struct{}), killed: killed}
	notified := w.count
	dir := filepath.Join(h.root, "memory", path)
	if _, err := os.Stat(filepath.Join(dir, "memory.oom_control")); err == nil {
		w.counter = filepath.Join(dir, "memory.oom_control")
		if w.file, err = oomEvents(dir); err != nil {
			return nil, fmt.Errorf("watch the memory of a cgroup: %w", err)
		}
		notified = func() { w.notified(dir) }
	} else {
		w.counter = filepath.Join(h.root, path, "memory.events")
		if _, err := os.Stat(w.counter); err != nil {
			return nil, fmt.Errorf("watch the memory of a cgroup: %w", err)
		}
		// The kernel limits the watches of a user. Without one, the processes are counted at the end.
		w.file, _ = modifications(w.counter)
	}
	w.count()
	go func() {
		defer close(w.ended)
		_ = crash.Guard(func() error { w.follow(notified); return nil })()
	}()
	return w, nil
}

// Close ends the watch. What the kernel has done before it is reported when Close returns.
func (w *OOMWatch) Close() {
	if w.file != nil {
		_ = w.file.Close()
	}
	<-w.ended
	w.count()
}

// follow calls notified for each notification.
func (w *OOMWatch) follow(notified func()) {
	if w.file == nil {
		return
	}
	buf := make([]byte, 4096)
	for {
		if _, err := w.file.Read(buf); err != nil {
			return
		}
		notified()
	}
}

// count reports the processes that have been killed since it was called last.
func (w *OOMWatch) count() {
	now, err := oomKills(w.counter)
	if err != nil {
		return // the cgroup has gone
	}
	for ; w.seen < now; w.seen++ {
		w.killed()
	}
}

// notified reports a process that the kernel is about to kill, and counts after that, so the number of the file does not help. The end of the
// cgroup is a notification, too.
func (w *OOMWatch) notified(dir string) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return
	}
	w.seen++
	w.killed()
}

// oomKills reads the number of processes that were killed: the line oom_kill of memory.events and of memory.oom_control.
func oomKills(file string) (uint64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		if text, ok := strings.CutPrefix(string(bytes.TrimSpace(line)), "oom_kill "); ok {
			return strconv.ParseUint(text, 10, 64)
		}
	}
	return 0, nil
}

// oomEvents returns a file that can be read when a cgroup of version 1 lacks memory (memcg_test.txt, cgroups/memory.txt of the kernel).
func oomEvents(dir string) (*os.File, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	events := os.NewFile(uintptr(fd), "eventfd")
	control, err := os.Open(filepath.Join(dir, "memory.oom_control"))
	if err == nil {
		err = errors.Join(write(filepath.Join(dir, "cgroup.event_control"), fmt.Sprintf("%d %d", fd, control.Fd())), control.Close())
	}
	if err != nil {
		return nil, errors.Join(err, events.Close())
	}
	return events, nil
}

// modifications returns a file that can be read when another one has changed (inotify(7)).
func modifications(name string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, name, unix.IN_MODIFY); err != nil {
		return nil, errors.Join(os.NewSyscallError("inotify_add_watch", err), f.Close())
	}
	return f, nil
}
