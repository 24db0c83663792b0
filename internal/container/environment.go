package container

import (
	"fmt"
	"strings"

	"github.com/docker/cli/opts"

	"github.com/micabuild/mica/internal/network"
)

// defaultPath is docker's PATH of images that have none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Environment is what the environment of a process is made of.
type Environment struct {
	Image    []string // the image's
	Files    []string // --env-file
	Set      []string // --env: NAME=value, or a NAME to take from mica's own environment
	Hostname string
	TTY      bool
}

// Variables are docker's: what every container has, replaced by --env-file, --env, and by the image where these do not name it.
// Where mica has no value for a name alone, the variable is taken away.
func (e *Environment) Variables() ([]string, error) {
	set := make([]string, len(e.Set))
	for i, kv := range e.Set {
		var err error
		if set[i], err = opts.ValidateEnv(kv); err != nil {
			return nil, fmt.Errorf("invalid argument %q for \"-e, --env\" flag: %w", kv, err)
		}
	}
	given, err := opts.ReadKVEnvStrings(e.Files, set)
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w", err)
	}
	env := []string{"PATH=" + defaultPath, "HOSTNAME=" + e.Hostname}
	if e.TTY {
		env = append(env, "TERM=xterm")
	}
	for _, kv := range e.Image {
		if _, found := indexEnv(given, variableName(kv)); !found {
			given = append(given, kv)
		}
	}
	for _, kv := range given {
		env = setEnv(env, kv)
	}
	return env, nil
}

func variableName(kv string) string {
	name, _, _ := strings.Cut(kv, "=")
	return name
}

// indexEnv finds a variable by its name.
func indexEnv(env []string, name string) (int, bool) {
	for i, kv := range env {
		if variableName(kv) == name {
			return i, true
		}
	}
	return 0, false
}

// setEnv sets a variable in its place, or takes it away where kv is a name alone.
func setEnv(env []string, kv string) []string {
	i, found := indexEnv(env, variableName(kv))
	switch {
	case !strings.Contains(kv, "="):
		if found {
			env = append(env[:i:i], env[i+1:]...)
		}
	case found:
		env[i] = kv
	default:
		env = append(env, kv)
	}
	return env
}

// hostGateway is the placeholder for the address at which a container reaches the host.
const hostGateway = "host-gateway"

// ExtraHosts are --add-host: name:address or name=address, an IPv6 address with or without brackets.
func ExtraHosts(flags []string, gateway string) ([]network.ExtraHost, error) {
	var hosts []network.ExtraHost
	for _, h := range flags {
		valid, err := opts.ValidateExtraHost(h)
		if err != nil {
			return nil, fmt.Errorf("invalid argument %q for \"--add-host\" flag: %w", h, err)
		}
		name, ip, _ := strings.Cut(valid, ":")
		if ip == hostGateway {
			ip = gateway
		}
		hosts = append(hosts, network.ExtraHost{Host: name, IP: ip})
	}
	return hosts, nil
}
