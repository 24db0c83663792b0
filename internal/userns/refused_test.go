package userns

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCause(t *testing.T) {
	t.Parallel()
	const filtered = "Name:\tmica\nSeccomp:\t2\n"
	for name, c := range map[string]struct {
		err   error
		files map[string]string // in /proc
		want  string
	}{
		"no namespaces":    {unix.ENOSPC, map[string]string{"sys/user/max_user_namespaces": "0\n"}, "user.max_user_namespaces is 0"},
		"too many":         {unix.ENOSPC, map[string]string{"sys/user/max_user_namespaces": "7\n"}, "user.max_user_namespaces is 7"},
		"too deep":         {unix.EUSERS, nil, "nested too deep"},
		"Debian's sysctl":  {unix.EPERM, map[string]string{"sys/kernel/unprivileged_userns_clone": "0\n"}, "kernel.unprivileged_userns_clone is 0"},
		"Ubuntu's sysctl":  {unix.EACCES, map[string]string{"sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, "kernel.apparmor_restrict_unprivileged_userns is 1"},
		"a seccomp filter": {unix.EPERM, map[string]string{"self/status": filtered}, "RuntimeDefault"},
		"in a pod on Ubuntu": {
			unix.EPERM, map[string]string{"self/status": filtered, "sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, "RuntimeDefault",
		},
		"a profile":  {unix.EPERM, map[string]string{"self/attr/apparmor/current": "cri-containerd.apparmor.d (enforce)\n"}, "AppArmor profile cri-containerd"},
		"unconfined": {unix.EPERM, map[string]string{"self/attr/apparmor/current": "unconfined\n"}, "operation not permitted"},
		"another":    {unix.ENOMEM, map[string]string{"self/status": filtered}, "cannot allocate memory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range c.files {
				path := filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := (host{dir}).cause(c.err); !strings.Contains(got, c.want) || !strings.HasPrefix(got, c.err.Error()) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestReadVerdict(t *testing.T) {
	t.Parallel()
	if err := readVerdict(strings.NewReader("")); err != nil {
		t.Error(err)
	}
	sent := &RefusedError{"operation not permitted: a profile"}
	var got *RefusedError
	if err := readVerdict(strings.NewReader(sent.Error())); !errors.As(err, &got) || *got != *sent {
		t.Errorf("%v, want %v", got, sent)
	}
}
