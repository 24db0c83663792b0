package sandbox

import (
	"bytes"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/inroot"
)

// written returns the command so that a script finds its path in $0 as it was written, such as ./x. crun executes the absolute
// path. For crun, mica therefore does what the kernel does: it puts the interpreter before a script with a relative path.
func (b *bundle) written() []string {
	args := b.p.Args
	if !b.crun || path.IsAbs(args[0]) || !strings.Contains(args[0], "/") {
		return args
	}
	root, err := inroot.OpenDir(b.root)
	if err != nil {
		return args
	}
	defer func() { _ = unix.Close(root) }()
	line := b.firstLine(root, b.cwd()+"/"+args[0])
	interpreter := parseInterpreter(line)
	if interpreter == nil || !b.executableIn(root, interpreter[0]) {
		return args // the kernel reports the error
	}
	return slices.Concat(interpreter, args)
}

// maxInterpreter is how much of a script the kernel reads (BINPRM_BUF_SIZE).
const maxInterpreter = 256

// parseInterpreter parses the first line of a script as the kernel does (fs/binfmt_script.c): an interpreter and at most one
// argument. It returns nil if the file is not a script or the interpreter is not an absolute path.
func parseInterpreter(line []byte) []string {
	line, ok := bytes.CutPrefix(line, []byte("#!"))
	if !ok {
		return nil
	}
	line, _, whole := bytes.Cut(line, []byte("\n"))
	text := strings.Trim(string(line), " \t")
	name, argument := text, ""
	if at := strings.IndexAny(text, " \t"); at >= 0 {
		name, argument = text[:at], strings.Trim(text[at:], " \t")
	}
	cut := !whole && len(line) >= maxInterpreter-len("#!")
	switch {
	case cut, !path.IsAbs(name), strings.Contains(text, "\x00"):
		return nil
	case argument == "":
		return []string{name}
	}
	return []string{name, argument}
}

// firstLine returns the beginning of an executable file, or nil. name is resolved inside root.
func (b *bundle) firstLine(root int, name string) []byte {
	if !b.executableIn(root, name) {
		return nil
	}
	f, err := inroot.OpenRegular(root, name)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxInterpreter))
	if err != nil {
		return nil
	}
	return data
}

// executableIn reports whether a path inside root refers to a file that the process may execute.
func (b *bundle) executableIn(root int, name string) bool {
	fd, err := inroot.Open(root, name)
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }()
	var at syscall.Statfs_t
	info, err := f.Stat()
	if err != nil || syscall.Fstatfs(fd, &at) != nil {
		return false
	}
	return info.Mode().IsRegular() && at.Flags&unix.ST_NOEXEC == 0 && b.ids.MayExecute(info)
}
