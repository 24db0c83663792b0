//go:build e2e

// Package vm runs tests in virtual machines: real Debian hosts with systemd and nothing but cgroups of version 2, on which
// mica is root, and an ordinary user who has logged in. The tests themselves are those of the package guest.
package vm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/micabuild/mica/test/rig"
)

// runScript is what a machine runs once it has started: the tests, with their output on the second serial port.
const runScript = `#!/bin/sh
exec >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo
udevadm settle
for nic in /sys/class/net/e*; do
	ip link set "${nic##*/}" up
	ip address add 10.0.2.15/24 dev "${nic##*/}"
	ip route add default via 10.0.2.2
done
cd /payload
./guest.test -test.v -test.timeout 15m
echo "exit code: $?"
poweroff -f
`

// A kernel is one that scripts/vm-disk has prepared a machine with.
type kernel struct{ dir, disk string }

func kernels(t *testing.T) []kernel {
	t.Helper()
	dir := filepath.Join(rig.Top(), "bin", "vm")
	images, err := filepath.Glob(filepath.Join(dir, "*", "vmlinuz"))
	if err != nil || len(images) < 2 {
		t.Fatalf("%s has %d kernels: run the tests by make", dir, len(images))
	}
	var list []kernel
	for _, image := range images {
		list = append(list, kernel{filepath.Dir(image), filepath.Join(dir, "root.img")})
	}
	return list
}

// payload is a disk with mica, the tests, and a base image.
func payload(t *testing.T) string {
	t.Helper()
	dir := rig.TempDir(t)
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(files, "run"), []byte(runScript), 0o755); err != nil {
		t.Fatal(err)
	}
	rig.Must(t, "install", "-m", "755", rig.Binary(t, "mica"), filepath.Join(files, "mica"))
	build := exec.Command("go", "test", "-c", "-tags", "guest", "-o", filepath.Join(files, "guest.test"), "./test/vm/guest")
	build.Dir, build.Env = rig.Top(), append(os.Environ(), "CGO_ENABLED=0")
	if out := rig.Run(t, build); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	base, err := rig.BusyboxTar(dir)
	if err != nil {
		t.Fatal(err)
	}
	rig.Must(t, "install", "-m", "644", base, filepath.Join(files, "busybox.tar"))
	for _, unit := range []string{"mica.socket", "mica.service"} {
		rig.Must(t, "install", "-m", "644", filepath.Join(rig.Top(), "packaging", "systemd", unit), filepath.Join(files, unit))
	}
	disk := filepath.Join(dir, "payload.img")
	rig.Must(t, "truncate", "-s", "1G", disk)
	rig.Must(t, "mke2fs", "-q", "-t", "ext4", "-d", files, disk)
	return disk
}

// boot runs a machine until it powers off, and returns what its tests and its console printed. It has no KVM: a processor
// is emulated, some ten times as slow.
func boot(t *testing.T, k kernel, payload string) (tests, console string) {
	t.Helper()
	dir := rig.TempDir(t)
	logs := []string{filepath.Join(dir, "console"), filepath.Join(dir, "tests")}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg", "-cpu", "max", "-m", "3072", "-smp", "2", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(k.dir, "vmlinuz"), "-initrd", filepath.Join(k.dir, "initramfs"),
		"-append", "console=ttyS0 root=/dev/vda rw quiet panic=-1",
		"-drive", "file="+k.disk+",if=virtio,format=raw,snapshot=on",
		"-drive", "file="+payload+",if=virtio,format=raw,snapshot=on",
		"-nic", "user,model=virtio-net-pci,restrict=on",
		"-serial", "file:"+logs[0], "-serial", "file:"+logs[1])
	if out := rig.Run(t, cmd); out.Code != 0 {
		t.Errorf("qemu: exit code %d\n%s", out.Code, out.Stderr)
	}
	var texts [2]string
	for i, log := range logs {
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = strings.ReplaceAll(string(data), "\r\n", "\n")
	}
	return texts[1], texts[0]
}

var passed = regexp.MustCompile(`(?m)^--- PASS: (\S+)`)

func TestHosts(t *testing.T) {
	disk := payload(t)
	for _, k := range kernels(t) {
		t.Run(filepath.Base(k.dir), func(t *testing.T) {
			t.Parallel()
			tests, console := boot(t, k, disk)
			if !strings.Contains(tests, "\nexit code: 0\n") || len(passed.FindAllString(tests, -1)) == 0 {
				t.Fatalf("tests on the host:\n%s\nconsole:\n%s", tests, console)
			}
			for _, name := range passed.FindAllStringSubmatch(tests, -1) {
				t.Log(name[1])
			}
		})
	}
}
