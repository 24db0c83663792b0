package sandbox

import (
	"fmt"
	"os"
	"path"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"

	"github.com/micabuild/mica/internal/ociruntime"
)

// findExecutable returns a shell's error and exit code if the command cannot be executed. The runtime would report it too, but
// on the process's own stderr. Commands that may be in a mount are left to the runtime.
func (b *bundle) findExecutable() error {
	name := b.p.Args[0]
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = path.Join(b.cwd(), name)
		}
		found, code, reason := b.executable(name)
		if found {
			return nil
		}
		return &ociruntime.StartError{Code: code, Reason: fmt.Sprintf("exec: %q: %s", b.p.Args[0], reason)}
	}
	code, reason := 127, "executable file not found in $PATH"
	for _, dir := range strings.Split(b.searchPath(), ":") {
		if !path.IsAbs(dir) {
			dir = path.Join(b.cwd(), dir)
		}
		found, c, r := b.executable(path.Join(dir, name))
		if found {
			return nil
		}
		if c == 126 {
			code, reason = c, r
		}
	}
	return &ociruntime.StartError{Code: code, Reason: fmt.Sprintf("exec: %q: %s", name, reason)}
}

// searchPath is the last PATH in the environment, as the process will see it.
func (b *bundle) searchPath() string {
	list := ""
	for _, kv := range b.p.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			list = v
		}
	}
	return list
}

func (b *bundle) executable(name string) (found bool, code int, reason string) {
	for _, m := range b.mountPoints() {
		if p := path.Clean("/" + m.target); p == name || strings.HasPrefix(name, p+"/") {
			return true, 0, ""
		}
	}
	full, err := securejoin.SecureJoin(b.rootfs, name)
	if err != nil {
		return false, 127, "no such file or directory"
	}
	info, err := os.Stat(full)
	switch {
	case err != nil:
		return false, 127, "no such file or directory"
	case info.IsDir():
		return false, 126, "is a directory"
	case !b.ids.MayExecute(info):
		return false, 126, "permission denied"
	}
	return true, 0, ""
}
