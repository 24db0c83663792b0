package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/buildkit/util/resolvconf"
	"github.com/moby/sys/user"

	"github.com/micabuild/mica/internal/account"
)

// makeCwd makes the working directory if it is missing: owned by the user, as BuildKit does, or by root, as Docker.
func (b *bundle) makeCwd() error {
	if b.p.Cwd == "" {
		return nil
	}
	dir, err := securejoin.SecureJoin(b.rootfs, b.p.Cwd)
	if err != nil {
		return fmt.Errorf("working directory %s: %w", b.p.Cwd, err)
	}
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("working directory %s is not a directory", b.p.Cwd)
		}
		return nil
	}
	if b.p.ReadOnlyRoot || b.p.Root.Upper == "" {
		return nil // the runtime says so if it matters
	}
	owner := b.ids
	if b.p.RootOwnsCwd {
		owner = account.IDs{}
	}
	err = user.MkdirAllAndChown(dir, 0o755, int(owner.UID), int(owner.GID))
	if err != nil {
		return fmt.Errorf("make working directory %s: %w", b.p.Cwd, cause(err))
	}
	return nil
}

// makeNetworkFiles makes the files that are mounted on /etc/hosts and /etc/resolv.conf, still empty.
func (b *bundle) makeNetworkFiles() error {
	for _, file := range b.networkFiles() {
		path := filepath.Join(b.dir, file)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return fmt.Errorf("prepare sandbox: %w", err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			return fmt.Errorf("prepare sandbox: %w", err)
		}
	}
	return nil
}

// writeNetworkFiles writes /etc/hosts, /etc/resolv.conf and /etc/hostname. A process on the host's network gets the host's
// resolvers.
func (b *bundle) writeNetworkFiles() error {
	var hosts strings.Builder
	name := b.hostname()
	if domain := b.p.Isolation.Domainname; domain != "" {
		name = name + "." + domain + " " + name
	}
	if b.own != nil && b.p.WritableHosts {
		fmt.Fprintf(&hosts, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n%s\t%s\n", b.own.Address(), name)
	} else {
		fmt.Fprintf(&hosts, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", name)
	}
	for _, h := range b.p.ExtraHosts {
		fmt.Fprintf(&hosts, "%s\t%s\n", h.IP, h.Host)
	}
	resolv, err := b.resolvConf()
	if err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	content := map[string]string{"hosts": hosts.String(), "resolv.conf": string(resolv), "hostname": b.hostname() + "\n"}
	for _, file := range b.networkFiles() {
		if err := os.WriteFile(filepath.Join(b.dir, file), []byte(content[file]), 0o644); err != nil {
			return fmt.Errorf("prepare sandbox: %w", err)
		}
	}
	return nil
}

// resolvConf returns the resolv.conf(5) of the process's network with the changes of its Resolver.
func (b *bundle) resolvConf() ([]byte, error) {
	base, err := b.networkResolvConf()
	r := b.p.Resolver
	if err != nil || r.Servers == nil && r.Search == nil && r.Options == nil {
		return base, err
	}
	rc, err := resolvconf.Parse(bytes.NewReader(base), "")
	if err != nil {
		return nil, err
	}
	if r.Servers != nil {
		rc.OverrideNameServers(r.Servers)
	}
	if r.Search != nil {
		rc.OverrideSearch(r.Search)
	}
	if r.Options != nil {
		rc.OverrideOptions(r.Options)
	}
	return rc.Generate(false)
}

func (b *bundle) networkResolvConf() ([]byte, error) {
	if b.own != nil {
		return b.own.ResolvConf(), nil
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return resolv, err
}

// defaultHostname is BuildKit's.
const defaultHostname = "buildkitsandbox"

func (b *bundle) hostname() string {
	if b.p.Hostname != "" {
		return b.p.Hostname
	}
	return defaultHostname
}
