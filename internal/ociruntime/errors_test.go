package ociruntime

import (
	"bytes"
	"strings"
	"testing"
)

// What a runtime says on the process's stderr is taken out or put into Docker's words; what the process says is not touched,
// however it is cut into writes.
func TestStderr(t *testing.T) {
	const failed = `{"msg":"mount ` + "`tmpfs` to `x`" + `: Invalid argument","level":"error","time":"2026-01-01T00:00:00Z"}` + "\n"
	const refused = `{"msg":"exec container process ` + "`/fmt`" + `: Exec format error","level":"error","time":"2026-01-01T00:00:00Z"}` + "\n"
	const missing = `{"msg":"exec container process (missing dynamic library?) ` + "`/bad`" + `: No such file or directory","level":"error"}` + "\n"
	for name, c := range map[string]struct{ log, said, want string }{
		"a process":             {"", "one\ntwo", "one\ntwo"},
		"a process with JSON":   {"", `{"msg":"exec"}` + "\n", `{"msg":"exec"}` + "\n"},
		"a process's half":      {"", `{"msg":"exec c`, `{"msg":"exec c`},
		"a runtime":             {failed, "mount `tmpfs` to `x`: Invalid argument\n", ""},
		"format":                {"", refused, "exec /fmt: exec format error\n"},
		"interpreter":           {"", missing, "exec /bad: no such file or directory\n"},
		"only what comes first": {"", "x\n" + refused, "x\n" + refused},
	} {
		for _, size := range []int{1, 7, 1000} {
			var out bytes.Buffer
			d := &Stderr{to: &out, log: strings.NewReader(c.log)}
			for rest := []byte(c.said); len(rest) > 0; {
				n := min(size, len(rest))
				if _, err := d.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if err := d.Flush(); err != nil || out.String() != c.want {
				t.Errorf("%s, %d bytes at once: %q, want %q (%v)", name, size, out.String(), c.want, err)
			}
		}
	}
}

// The words are Docker's, and so are the codes.
func TestStartError(t *testing.T) {
	for said, want := range map[string]StartError{
		"executable file `foo` not found in $PATH: No such file or directory":                                 {127, `exec: "foo": executable file not found in $PATH`},
		`runc run failed: unable to start container process: exec: "foo": executable file not found in $PATH`: {127, `exec: "foo": executable file not found in $PATH`},
		`runc run failed: unable to start container process: exec: "/x": permission denied`:                   {126, `exec: "/x": permission denied`},
		"mount `tmpfs` to `x`: Invalid argument":                                                              {125, `OCI runtime create failed: mount "tmpfs" to "x": invalid argument`},
		"runc run failed: unable to start container process: error during container init: error mounting \"tmpfs\" to rootfs at \"/x\": mount tmpfs:/x (via /proc/self/fd/6), flags: 0xe, data: a=1: invalid argument": {125, `OCI runtime create failed: error mounting "tmpfs" to rootfs at "/x": mount tmpfs:/x: invalid argument`},
		"setrlimit `RLIMIT_NOFILE`: Operation not permitted": {125, `OCI runtime create failed: setrlimit "RLIMIT_NOFILE": operation not permitted`},
	} {
		if got := startError(said).(*StartError); *got != want { //nolint:errorlint,forcetypeassert // it is one
			t.Errorf("%s:\n%d %s, want\n%d %s", said, got.Code, got.Reason, want.Code, want.Reason)
		}
	}
}
