package buildspec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/micabuild/mica/internal/compression"
)

// On says where the processes of steps run.
type On struct {
	// Engine is the address of a mica that serves, "unix:///path" or "tcp://host:port", or Kubernetes.
	Engine string
	// Job describes the Jobs of Kubernetes.
	Job OnJob
	// Layers is the repository by which layers come and go.
	Layers Cache
	// CACert, Cert and Key are the files of TLS for an address of tcp. ServerName is the name in the server's certificate, "" for its host.
	CACert, Cert, Key, ServerName string
}

// Kubernetes is the engine whose workers are Jobs of a cluster.
const Kubernetes = "kubernetes"

// OnJob describes the Jobs that run steps in a cluster.
type OnJob struct {
	// Context is one of the kubeconfig, Namespace one of the cluster; "" for the current ones.
	Context, Namespace string
	// Image is one of mica's own, Isolation that of the steps, "" for what the cluster admits.
	Image, Isolation string
	// Template is a file that is merged into the Job, "" for none.
	Template string
	// Timeout is how long a pod has until it runs; 0 for the default.
	Timeout time.Duration
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
	keys, err := on.keys()
	if err != nil {
		return nil, err
	}
	for _, f := range fields[1:] {
		k, v, ok := strings.Cut(f, "=")
		set := keys[k]
		switch {
		case !ok || v == "":
			return nil, fmt.Errorf("%q is not of the form key=value", f)
		case set == nil:
			return nil, fmt.Errorf("unknown key %q: use %s", k, strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
		}
		if err := set(v); err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
	}
	return on, on.check()
}

// keys are what sets the keys that the engine has.
func (on *On) keys() (map[string]func(string) error, error) {
	texts := map[string]*string{"repo": &on.Layers.Ref}
	switch {
	case strings.HasPrefix(on.Engine, "unix://"):
	case strings.HasPrefix(on.Engine, "tcp://"):
		maps.Copy(texts, map[string]*string{"cacert": &on.CACert, "cert": &on.Cert, "key": &on.Key, "servername": &on.ServerName})
	case on.Engine == Kubernetes:
		j := &on.Job
		maps.Copy(texts, map[string]*string{"context": &j.Context, "namespace": &j.Namespace, "image": &j.Image, "isolation": &j.Isolation, "template": &j.Template})
	default:
		return nil, errors.New("use unix:///PATH, tcp://HOST:PORT or kubernetes")
	}
	keys := map[string]func(string) error{}
	for k, to := range texts {
		keys[k] = func(v string) error {
			*to = v
			return nil
		}
	}
	keys["registry.insecure"] = func(v string) (err error) {
		if on.Layers.Insecure, err = strconv.ParseBool(v); err != nil {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		return nil
	}
	if on.Engine == Kubernetes {
		keys["timeout"] = func(v string) (err error) {
			if on.Job.Timeout, err = time.ParseDuration(v); err != nil || on.Job.Timeout <= 0 {
				return fmt.Errorf("%q is not a duration such as 10m", v)
			}
			return nil
		}
	}
	return keys, nil
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
