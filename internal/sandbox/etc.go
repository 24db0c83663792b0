package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/micabuild/mica/internal/network"
)

// networkFiles are the files of /etc that mica writes.
func (b *bundle) networkFiles() []string {
	files := []string{"resolv.conf", "hosts"}
	if b.p.WritableHosts {
		files = append(files, "hostname")
	}
	return files
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
	var own netip.Addr
	if b.own != nil && b.p.WritableHosts {
		own = b.own.Address()
	}
	hosts := network.Hosts(b.hostname(), b.p.Isolation.Domainname, own, b.p.ExtraHosts)
	resolv, err := b.networkResolvConf()
	if err == nil {
		resolv, err = b.p.Resolver.Apply(resolv)
	}
	if err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	content := map[string][]byte{"hosts": hosts, "resolv.conf": resolv, "hostname": []byte(b.hostname() + "\n")}
	for _, file := range b.networkFiles() {
		if err := os.WriteFile(filepath.Join(b.dir, file), content[file], 0o644); err != nil {
			return fmt.Errorf("prepare sandbox: %w", err)
		}
	}
	return nil
}

// networkResolvConf returns the resolv.conf(5) of the process's network.
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
