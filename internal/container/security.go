package container

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/micabuild/mica/internal/runtimespec"
)

// securityOptions applies --security-opt, in the words of docker and of its daemon.
func securityOptions(list []string, to *runtimespec.Isolation) error {
	for _, option := range list {
		key, value, err := cutSecurityOption(option)
		if err == nil {
			err = securityOption(key, value, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func cutSecurityOption(option string) (key, value string, err error) {
	key, value, ok := strings.Cut(option, "=")
	if !ok && key != "no-new-privileges" {
		key, value, ok = strings.Cut(option, ":")
	}
	if (!ok || value == "") && key != "no-new-privileges" {
		return "", "", fmt.Errorf("invalid --security-opt: %q", option)
	}
	return key, value, nil
}

// ReadProfiles returns values of --security-opt in which the text of a seccomp profile is in place of the file that the user names. The
// errors are those of docker's client, which does it: the engine reads no file.
func ReadProfiles(list []string) ([]string, error) {
	list = slices.Clone(list)
	for n, option := range list {
		key, file, err := cutSecurityOption(option)
		if err != nil {
			return nil, err
		}
		if key != "seccomp" || file == unconfined || file == builtin {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("opening seccomp profile (%s) failed: %w", file, err)
		}
		var profile bytes.Buffer
		if err := json.Compact(&profile, data); err != nil {
			return nil, fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", file, err)
		}
		list[n] = "seccomp=" + profile.String()
	}
	return list, nil
}

// The seccomp profiles that have a name.
const (
	unconfined = "unconfined"
	builtin    = "builtin"
)

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
		if value != unconfined {
			return unknown
		}
		to.MaskedPaths, to.ReadonlyPaths = []string{}, []string{}
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

// seccompOption takes the text of a profile, which the sandbox checks when the process starts.
func seccompOption(value string, to *runtimespec.Isolation) error {
	to.NoSeccomp, to.SeccompProfile = value == unconfined, ""
	if value == unconfined || value == builtin {
		return nil
	}
	if !json.Valid([]byte(value)) {
		return errors.New("decoding seccomp profile failed: it is not JSON")
	}
	to.SeccompProfile = value
	return nil
}

// appArmorOption names a profile that the host has loaded. Without AppArmor there is nothing to do, as in Docker.
func appArmorOption(value string, to *runtimespec.Isolation) error {
	enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if value != unconfined && bytes.HasPrefix(enabled, []byte("Y")) {
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
