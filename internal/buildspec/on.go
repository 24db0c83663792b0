package buildspec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/micabuild/mica/internal/compression"
)

// On says where the processes of steps run.
type On struct {
	// Engine is the address of a mica that serves, "unix:///path" or "tcp://host:port".
	Engine string
	// Layers is the repository by which layers come and go.
	Layers Cache
	// CACert, Cert and Key are the files of TLS for an address of tcp. ServerName is the name in the server's certificate, "" for its host.
	CACert, Cert, Key, ServerName string
}

// ParseOn reads --on, "unix:///run/mica/mica.sock,repo=registry.example.com/app/cache". Without repo, layers go through the first cache that the
// build writes with mode=steps.
func ParseOn(text string, caches []Cache) (*On, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // this host
	}
	on, err := parseOn(text)
	if err != nil {
		return nil, fmt.Errorf("invalid value %q of --on: %w", text, err)
	}
	if on.Layers.Ref != "" {
		return on, nil
	}
	i := slices.IndexFunc(caches, func(c Cache) bool { return c.Steps })
	if i < 0 {
		return nil, fmt.Errorf("--on %s needs a repository that both sides reach: add repo=REGISTRY/NAME, or --cache-to type=registry,mode=steps,ref=REGISTRY/NAME", on.Engine)
	}
	on.Layers = caches[i]
	return on, nil
}

func parseOn(text string) (*On, error) {
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return nil, err
	}
	on := &On{Engine: fields[0]}
	if !strings.HasPrefix(on.Engine, "unix://") && !strings.HasPrefix(on.Engine, "tcp://") {
		return nil, errors.New("use unix:///PATH or tcp://HOST:PORT")
	}
	texts := map[string]*string{"cacert": &on.CACert, "cert": &on.Cert, "key": &on.Key, "servername": &on.ServerName, "repo": &on.Layers.Ref}
	for _, f := range fields[1:] {
		k, v, ok := strings.Cut(f, "=")
		switch to := texts[k]; {
		case !ok || v == "":
			return nil, fmt.Errorf("%q is not of the form key=value", f)
		case to != nil:
			*to = v
		case k == "registry.insecure":
			if on.Layers.Insecure, err = strconv.ParseBool(v); err != nil {
				return nil, fmt.Errorf("registry.insecure: %q is neither true nor false", v)
			}
		default:
			return nil, fmt.Errorf("unknown key %q: use %s or registry.insecure", k, strings.Join(slices.Sorted(maps.Keys(texts)), ", "))
		}
	}
	return on, on.check()
}

func (on *On) check() error {
	if strings.HasPrefix(on.Engine, "tcp://") && (on.CACert == "" || on.Cert == "" || on.Key == "") {
		return errors.New("an address of tcp needs TLS: add cacert=FILE,cert=FILE,key=FILE")
	}
	if on.Layers.Ref == "" {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(on.Layers.Ref)
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	if !reference.IsNameOnly(named) {
		return errors.New("repo is the name of a repository, without a tag")
	}
	on.Layers.Type, on.Layers.Compression = CacheRegistry, compression.Gzip
	return nil
}
