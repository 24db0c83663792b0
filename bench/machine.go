//go:build e2e

package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// machine is what times depend on, in words.
type machine struct {
	Processors int    `json:"processors"`
	Model      string `json:"model"`
	Memory     int64  `json:"memory"` // bytes
	Filesystem string `json:"filesystem"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
}

func thisMachine(dir string) machine {
	m := machine{Processors: runtime.NumCPU(), Go: runtime.Version()}
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.Model = strings.TrimSpace(value)
			break
		}
	}
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	out, _ := exec.Command("findmnt", "-n", "-o", "FSTYPE", "-T", dir).Output()
	m.Filesystem = strings.TrimSpace(string(out))
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	var major, minor int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &major, &minor); err == nil {
		m.Kernel = fmt.Sprintf("%d.%d", major, minor)
	}
	return m
}

// moduleVersion is the version of a module in a program that Go built.
func moduleVersion(file, path string) string {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == path {
			return d.Version
		}
	}
	return info.Main.Version
}
