package rig

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// AsUser is mica as an ordinary user of the host, who is made for the test; without ranges, only the user's own id is there
// to be mapped.
func AsUser(t testing.TB, name string, ranges bool) *Mica {
	t.Helper()
	Run(t, exec.Command("userdel", "-rf", name))
	Must(t, "useradd", "-m", name)
	t.Cleanup(func() { Run(t, exec.Command("userdel", "-rf", name)) })
	if !ranges {
		Must(t, "sed", "-i", "/^"+name+":/d", "/etc/subuid", "/etc/subgid")
	}
	home := filepath.Join("/home", name)
	m := NewMica(t)
	Must(t, "install", "-m", "755", m.Path, filepath.Join(home, "mica"))
	m.Path, m.Root = filepath.Join(home, "mica"), filepath.Join(home, "store")
	m.Prefix = []string{"setpriv", "--reuid", name, "--regid", name, "--init-groups", "--reset-env"}
	m.Env = []string{"HOME=" + home}
	// --reset-env drops what Command sets; env(1) sets it again.
	m.Prefix = append(m.Prefix, "env", "MICA_ROOT="+m.Root, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	return m
}
