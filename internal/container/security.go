package container

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/micabuild/mica/internal/runtimespec"
)

// securityOptions applies --security-opt, in the words of docker and of its daemon.
func securityOptions(list []string, to *runtimespec.Isolation) error {
	for _, option := range list {
		key, value, ok := strings.Cut(option, "=")
		if !ok && key != "no-new-privileges" {
			key, value, ok = strings.Cut(option, ":")
		}
		if (!ok || value == "") && key != "no-new-privileges" {
			return fmt.Errorf("invalid --security-opt: %q", option)
		}
		if err := securityOption(key, value, to); err != nil {
			return err
		}
	}
	return nil
}

func securityOption(key, value string, to *runtimespec.Isolation) error {
	unknown := fmt.Errorf("invalid --security-opt 2: %q", key+"="+value)
	switch key {
	case "no-new-privileges":
		set, err := strconv.ParseBool(cmp.Or(value, "true"))
		if err != nil {
			return unknown
		}
		to.NoNewPrivileges = set
		return nil
	case "seccomp":
		return seccompOption(value, to)
	case "systempaths":
		if value != "unconfined" {
			return unknown
		}
		to.OpenSystemPaths = true
		return nil
	case "apparmor":
		return appArmorOption(value, to)
	case "label":
		return labelOption(value)
	case "writable-cgroups":
		return errors.New("--security-opt writable-cgroups is not supported: run with --privileged")
	}
	return unknown
}

// seccompOption reads a profile, which the sandbox has checked when the process starts.
func seccompOption(value string, to *runtimespec.Isolation) error {
	to.NoSeccomp, to.SeccompProfile = value == "unconfined", ""
	if value == "unconfined" || value == "builtin" {
		return nil
	}
	data, err := os.ReadFile(value)
	if err != nil {
		return fmt.Errorf("opening seccomp profile (%s) failed: %w", value, err)
	}
	var profile bytes.Buffer
	if err := json.Compact(&profile, data); err != nil {
		return fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", value, err)
	}
	to.SeccompProfile = profile.String()
	return nil
}

// appArmorOption names a profile that the host has loaded. Without AppArmor there is nothing to do, as in Docker.
func appArmorOption(value string, to *runtimespec.Isolation) error {
	enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if value != "unconfined" && bytes.HasPrefix(enabled, []byte("Y")) {
		to.AppArmorProfile = value
	}
	return nil
}

// labelOption accepts what changes nothing where SELinux is not on, and its absence.
func labelOption(value string) error {
	if value == "disable" {
		return nil
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		return fmt.Errorf("--security-opt label=%s: mica sets no SELinux labels: use label=disable", value)
	}
	return nil
}
