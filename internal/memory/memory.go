// Package memory says when garbage is collected, and returns memory to the system that a process which waits does not need.
package memory

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// Release returns the memory of garbage, and the pages of the program that are in memory. It is for a process that waits: what runs next
// maps the pages that it needs again.
func Release() {
	runtime.GC() // closes files that nobody has closed: what they refer to is garbage for the next
	debug.FreeOSMemory()
	DropProgram()
}

// DropProgram unmaps the pages of this program, of which the system keeps the file in its cache: a process that has started or has built
// has touched most of a large program, and runs little of it while it waits.
func DropProgram() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	for _, m := range programMappings(f, exe) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED) // the pages stay
	}
}

type mapping struct{ start, end uintptr }

// programMappings reads smaps of proc(5), and returns the mappings of a file that can be read again from it: they are not writable, and no
// page was changed before they were made so.
func programMappings(smaps io.Reader, file string) (list []mapping) {
	var current *mapping
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) > 1 && !strings.HasSuffix(fields[0], ":"): // the first line of a mapping
			current = nil
			var m mapping
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &m.start, &m.end); err == nil && len(fields) == 6 && fields[5] == file && !strings.Contains(fields[1], "w") {
				current = &m
			}
		case current != nil && len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0":
			list = append(list, *current)
		}
	}
	return list
}
