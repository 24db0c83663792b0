package builder

import (
	"errors"

	"github.com/micabuild/mica/internal/certs"
	"github.com/micabuild/mica/internal/solver/ops"
	"github.com/micabuild/mica/internal/store"
)

// certsTarget is the directory in which processes find the host's certificates.
const certsTarget = "/run/mica/certs"

// hostCerts are the certificates of the host, in files for the time of a build.
type hostCerts struct {
	mount *ops.HostCerts // nil for none
	temp  *store.Temp
}

func (b *Builder) hostCerts(enabled bool) (*hostCerts, error) {
	if !enabled {
		return &hostCerts{}, nil
	}
	bundle, err := certs.Host()
	if err != nil {
		return nil, err
	}
	temp, err := b.Store.TempDir("certs")
	if err != nil {
		return nil, err
	}
	if err := bundle.Write(temp.Path, certsTarget); err != nil {
		return nil, errors.Join(err, temp.Remove())
	}
	return &hostCerts{temp: temp, mount: &ops.HostCerts{
		Source: temp.Path, Target: certsTarget, Env: func(env []string) []string { return certs.Env(env, certsTarget) },
	}}, nil
}

func (h *hostCerts) remove() error {
	if h.temp == nil {
		return nil
	}
	return h.temp.Remove()
}
