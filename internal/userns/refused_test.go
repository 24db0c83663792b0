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

func TestMasked(t *testing.T) {
	t.Parallel()
	const (
		root = "20 1 8:1 / / rw - ext4 /dev/sda rw\n"
		proc = "30 20 0:50 / /proc rw - proc proc rw\n"
	)
	for name, c := range map[string]struct {
		mounts string
		want   bool
	}{
		"a host":              {root + proc + "31 30 0:51 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n", false},
		"a masked file":       {root + proc + "31 30 0:52 /null /proc/kcore rw - tmpfs tmpfs rw\n", true},
		"a read-only part":    {root + proc + "31 30 0:50 /sys /proc/sys ro - proc proc rw\n", true},
		"another whole one":   {root + proc + "31 30 0:52 /null /proc/kcore rw - tmpfs tmpfs rw\n40 20 0:60 / /mnt rw - proc proc rw\n", false},
		"a part alone":        {root + "31 20 0:50 /sys /proc/sys ro - proc proc rw\n", true},
		"nothing can be read": {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if c.mounts != "" {
				if err := errors.Join(os.Mkdir(filepath.Join(dir, "self"), 0o755), os.WriteFile(filepath.Join(dir, "self/mountinfo"), []byte(c.mounts), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if got := (host{dir}).masked(); got != c.want {
				t.Errorf("masked: %v", got)
			}
		})
	}
}
