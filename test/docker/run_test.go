//go:build e2e

package docker

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// docker run and mica run say the same of the same flags, in what they print, in their errors and in their exit codes.
func TestRunFlags(t *testing.T) {
	p := newPair(t)
	tar, err := rig.BusyboxTar(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []func(...string){func(a ...string) { engine.Run(t, a...) }, func(a ...string) { p.mica.Run(a...) }} {
		run("import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "-c", "WORKDIR /w", tar, "run-base")
	}
	dir := rig.TempDir(t)
	files := map[string]string{"s": "#!/bin/sh\necho \"$0\" \"$@\"\n", "profile": `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}`}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bind, existing := "type=bind,src="+dir+",dst=", filepath.Join(dir, "s")
	for _, args := range [][]string{
		{"--init", "run-base", "nosuch"},
		{"--init", "run-base", "/etc/passwd"},
		{"--init", "run-base", "sh", "-c", "kill -15 $$"},
		{"--mount", bind + "/w", "run-base", "./s", "a b"},
		{"--mount", bind + "/w,readonly", "run-base", "touch", "x"},
		{"--mount", "type=bind,src=/nosuch,dst=/t", "run-base", "true"},
		{"--mount", bind + "t", "run-base", "true"},
		{"--mount", "type=bind,src=" + dir + ",dst=/t,bind-propagation=x", "run-base", "true"},
		{"--mount", bind + "/t", "-v", dir + ":/t", "run-base", "true"},
		{"--mount", "type=tmpfs,src=/t,dst=/t", "run-base", "true"},
		{"--mount", "type=tmpfs,dst=/t,tmpfs-mode=700,tmpfs-size=1m", "run-base", "sh", "-c", "stat -c %a /t; df -k /t | tail -n1"},
		{"--shm-size", "1m", "run-base", "df", "-k", "/dev/shm"},
		{"-h", "h", "--domainname", "a.b", "run-base", "sh", "-c", "hostname; cat /etc/hostname /proc/sys/kernel/domainname"},
		{"--uts", "host", "run-base", "hostname"},
		{"--uts", "host", "-h", "h", "run-base", "true"},
		{"--ipc", "none", "run-base", "ls", "-d", "/dev/shm"},
		{"--ipc", "x", "run-base", "true"},
		{"--sysctl", "kernel.shmmax=1000", "run-base", "cat", "/proc/sys/kernel/shmmax"},
		{"--security-opt", "no-new-privileges", "run-base", "grep", "NoNew", "/proc/self/status"},
		{"--security-opt", "seccomp=unconfined", "run-base", "grep", "Seccomp:", "/proc/self/status"},
		{"--security-opt", "seccomp=" + filepath.Join(dir, "profile"), "run-base", "mkdir", "/x"},
		{"--security-opt", "systempaths=unconfined", "run-base", "sh", "-c", "grep -c ' /proc/' /proc/mounts"},
		{"--security-opt", "bogus=1", "run-base", "true"},
		{"--device", "/dev/zero:/dev/x:r", "run-base", "sh", "-c", "head -c3 /dev/x | wc -c; stat -c '%a %t:%T %u:%g' /dev/x"},
		{"--device", "/etc/passwd", "run-base", "true"},
		{"--device", "/dev/null:x", "run-base", "true"},
		{"--device", "/dev/null:/dev/x:q", "run-base", "true"},
		{"--cidfile", existing, "run-base", "true"},
		{"--mac-address", "x", "run-base", "true"},
		{"--stop-signal", "X", "run-base", "true"},
	} {
		args = append([]string{"run", "--rm", "--network", "none"}, args...)
		want, got := engine.Try(t, args...), p.mica.Try(nil, args...)
		if w, g := said(inWordsOfToday(want.Stderr)), said(got.Stderr); w != g || want.Code != got.Code || want.Stdout != got.Stdout {
			t.Errorf("%q:\n%d %q %q\nwant:\n%d %q %q", args, got.Code, got.Stdout, g, want.Code, want.Stdout, w)
		}
	}
}

// tiniChild is a number that depends on how many threads the runtime has used.
var tiniChild = regexp.MustCompile(`tini \(\d+\)`)

// said is an error without who says it, and without what follows it.
func said(stderr string) string {
	line, _, _ := strings.Cut(ownWords(stderr), "\n")
	line = strings.TrimPrefix(strings.TrimPrefix(line, "mica: "), "Error: ")
	return tiniChild.ReplaceAllString(strings.TrimSuffix(line, "."), "tini (7)")
}
