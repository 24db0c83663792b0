package sandbox

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// mountFlags are the options of mount(8) that set a flag of mount(2), and clearedFlags those that clear one.
var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "sync": unix.MS_SYNCHRONOUS,
	"dirsync": unix.MS_DIRSYNC, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
	"strictatime": unix.MS_STRICTATIME,
}

var clearedFlags = map[string]uintptr{
	"rw": unix.MS_RDONLY, "suid": unix.MS_NOSUID, "dev": unix.MS_NODEV, "exec": unix.MS_NOEXEC, "async": unix.MS_SYNCHRONOUS,
	"atime": unix.MS_NOATIME, "diratime": unix.MS_NODIRATIME, "norelatime": unix.MS_RELATIME, "nostrictatime": unix.MS_STRICTATIME,
	"defaults": 0,
}

// parseTmpfs separates options into flags of mount(2) and options of tmpfs. Later options win.
func parseTmpfs(options []string) (flags uintptr, data []string) {
	for _, o := range options {
		if f, ok := mountFlags[o]; ok {
			flags |= f
		} else if f, ok := clearedFlags[o]; ok {
			flags &^= f
		} else if o != "" {
			data = append(data, o)
		}
	}
	return flags, data
}

// mountTmpfs mounts a tmpfs at a path of the bundle's directory. Unless its options set a mode, it gets that of the directory
// that it will cover, of which target is a descriptor.
func mountTmpfs(at string, target int, m Mount) error {
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	options := append([]string{fmt.Sprintf("mode=%o", st.Mode&0o7777)}, tmpfsOptions(m)...)
	flags, data := parseTmpfs(options)
	return unix.Mount("tmpfs", at, "tmpfs", flags, strings.Join(data, ","))
}

// tmpfsOptions returns the options of a tmpfs mount for mount(8) and runtimes.
func tmpfsOptions(m Mount) []string {
	opts := []string{"nosuid"}
	if m.Options != "" {
		opts = append(opts, strings.Split(m.Options, ",")...)
	}
	if m.Size > 0 {
		opts = append(opts, fmt.Sprintf("size=%d", m.Size))
	}
	if m.ReadOnly {
		opts = append(opts, "ro")
	}
	return opts
}
