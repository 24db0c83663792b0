package rig

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// busyboxScript makes the root filesystem of a small base image from Debian's busybox-static.
const busyboxScript = `
set -eu
cd "$1"
mkdir -p bin dev etc home/dev proc root run sys tmp usr/bin usr/share/doc var/log
chmod 1777 tmp
cp /bin/busybox bin/busybox
for a in $(bin/busybox --list); do [ "$a" = busybox ] || ln -s busybox "bin/$a"; done
printf 'root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/var/www:/bin/sh\ndev:x:1000:1000::/home/dev:/bin/sh\n' >etc/passwd
printf 'root:x:0:\nwww:x:33:\ndev:x:1000:\nstaff:x:50:dev,www\n' >etc/group
: >etc/hosts; : >etc/resolv.conf
echo 'a base' >usr/share/doc/README
ln usr/share/doc/README usr/share/doc/COPYRIGHT
ln -s ../share/doc usr/bin/doc
mkdir opt; ln -s opt opt-link; ln -s /var/log abs-log; ln -s nowhere broken
echo setuid >usr/bin/tool; chmod 4755 usr/bin/tool
echo cap >usr/bin/netcap; chmod 755 usr/bin/netcap; setcap cap_net_raw+ep usr/bin/netcap
chown 1000:1000 home/dev
chown 33:50 var/log; chmod 2775 var/log
find . -exec touch -h -d '2021-03-04 05:06:07' {} +
`

// BusyboxTree makes a small root filesystem in a new directory. It needs root, for owners and file capabilities.
func BusyboxTree(dir string) (string, error) {
	root := filepath.Join(dir, "busybox")
	if err := os.Mkdir(root, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("sh", "-c", busyboxScript, "sh", root)
	cmd.Stderr = os.Stderr
	return root, cmd.Run()
}

// BusyboxTar is BusyboxTree as an archive for import.
func BusyboxTar(dir string) (string, error) {
	root, err := BusyboxTree(dir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "busybox.tar")
	cmd := exec.Command("tar", "--xattrs", "--xattrs-include=*", "-C", root, "-cf", path, ".")
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
}

// ImportBusybox gives mica, whoever its user is, the small base image under a name.
func ImportBusybox(t testing.TB, m *Mica, name string) {
	t.Helper()
	dir := TempDir(t)
	tar, err := BusyboxTar(dir)
	if err != nil {
		t.Fatal(err)
	}
	Must(t, "chmod", "a+rX", dir, tar)
	m.Run("import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "-c", `CMD ["sh"]`, tar, name)
}
