package runcmd

import (
	"fmt"
	"strings"

	"github.com/docker/cli/opts"

	"github.com/micabuild/mica/internal/network"
)

// defaultPath is docker's PATH of images that have none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is docker's: what every container has, replaced by --env-file, -e, and by the image where these do not name it.
// -e with a name alone takes mica's own value; where there is none, it takes the variable away.
func (f *runFlags) environment(image []string, hostname string) ([]string, error) {
	for i, kv := range f.env {
		set, err := opts.ValidateEnv(kv)
		if err != nil {
			return nil, fmt.Errorf("invalid argument %q for \"-e, --env\" flag: %w", kv, err)
		}
		f.env[i] = set
	}
	given, err := opts.ReadKVEnvStrings(f.envFiles, f.env)
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w", err)
	}
	env := []string{"PATH=" + defaultPath, "HOSTNAME=" + hostname}
	if f.tty {
		env = append(env, "TERM=xterm")
	}
	for _, kv := range image {
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

// hostGateway stands for the address at which a container reaches the host.
const hostGateway = "host-gateway"

// extraHosts are --add-host: name:address or name=address, an IPv6 address with or without brackets.
func extraHosts(flags []string, gateway string) ([]network.ExtraHost, error) {
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
