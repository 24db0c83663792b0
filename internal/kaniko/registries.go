package kaniko

import (
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/registry"
)

// Registries are the flags about registries.
type Registries struct {
	pushInsecure, pullInsecure                   [2]bool // plain HTTP, unverified TLS: mica has one permission for both
	insecure, certificates, clients, maps, hosts []string
	mirrorsOnly                                  bool
}

func (r *Registries) addFlags(fl *pflag.FlagSet) {
	fl.BoolVar(&r.pushInsecure[0], "insecure", false, "Push to registries without TLS")
	fl.BoolVar(&r.pushInsecure[1], "skip-tls-verify", false, "Push to registries without verifying TLS certificates")
	fl.BoolVar(&r.pullInsecure[0], "insecure-pull", false, "Pull from registries without TLS")
	fl.BoolVar(&r.pullInsecure[1], "skip-tls-verify-pull", false, "Pull from registries without verifying TLS certificates")
	fl.Var(&list{&r.insecure, nil}, "insecure-registry", "Registry without TLS (repeatable)")
	fl.Var(&list{&r.insecure, nil}, "skip-tls-verify-registry", "Registry whose TLS certificate is not verified (repeatable)")
	fl.Var(&list{&r.certificates, keyValue}, "registry-certificate", "Certificate authority of a registry, REGISTRY=FILE (repeatable)")
	fl.Var(&list{&r.clients, checkClient}, "registry-client-cert", "Client certificate for a registry, REGISTRY=CERTIFICATE,KEY (repeatable)")
	fl.Var(&list{&r.maps, checkMaps}, "registry-map", "Mirrors of registries, REGISTRY=MIRROR[;REGISTRY=MIRROR...] (repeatable)")
	fl.Var(&list{&r.hosts, nil}, "registry-mirror", "Mirror of docker.io (repeatable)")
	fl.BoolVar(&r.mirrorsOnly, "skip-default-registry-fallback", false, "Pull from mirrors alone where a registry has some")
	fl.Int("push-retry", 0, "Accepted, without effect: mica retries")
	fl.Int("image-download-retry", 0, "Accepted, without effect: mica retries")
	fl.Bool("skip-push-permission-check", false, "Accepted, without effect")
}

// checkMaps checks "registry=mirror;registry=mirror".
func checkMaps(value string) error {
	for pair := range strings.SplitSeq(value, ";") {
		if value == "" {
			return nil
		}
		if err := keyValue(pair); err != nil {
			return err
		}
	}
	return nil
}

// checkClient checks "registry=certificate,key".
func checkClient(value string) error {
	if err := keyValue(value); err != nil {
		return err
	}
	_, files, _ := strings.Cut(value, "=")
	if strings.Count(files, ",") != 1 {
		return fmt.Errorf("expect registry=certificate,key, got %s", value)
	}
	return nil
}

func (r *Registries) finish(env func(string) (string, bool)) error {
	if v, ok := env("KANIKO_REGISTRY_MIRROR"); ok && v != "" {
		r.hosts = append(r.hosts, v)
	}
	if v, ok := env("KANIKO_REGISTRY_MAP"); ok {
		if err := checkMaps(v); err != nil {
			return fmt.Errorf("KANIKO_REGISTRY_MAP: %w", err)
		}
		r.maps = append(r.maps, v)
	}
	return nil
}

// Access is what the flags say about registries. Images are pushed to the hosts of destinations.
func (o *Options) Access() registry.Access {
	r := &o.Registries
	a := registry.Access{
		InsecureAll: r.pullInsecure[0] || r.pullInsecure[1], MirrorsOnly: r.mirrorsOnly,
		Mirrors: map[string][]string{}, Certificates: map[string]registry.Certificates{},
	}
	for _, host := range r.insecure {
		a.Insecure = append(a.Insecure, hubName(host))
	}
	if r.pushInsecure[0] || r.pushInsecure[1] {
		a.Insecure = append(a.Insecure, o.pushHosts()...)
	}
	for _, value := range r.maps {
		for pair := range strings.SplitSeq(value, ";") {
			if host, mirror, ok := strings.Cut(pair, "="); ok {
				r.addMirror(&a, host, mirror)
			}
		}
	}
	for _, mirror := range r.hosts {
		r.addMirror(&a, hubName(""), mirror)
	}
	for _, value := range r.certificates {
		host, file, _ := strings.Cut(value, "=")
		c := a.Certificates[hubName(host)]
		c.Authorities = append(c.Authorities, file)
		a.Certificates[hubName(host)] = c
	}
	for _, value := range r.clients {
		host, files, _ := strings.Cut(value, "=")
		c := a.Certificates[hubName(host)]
		c.Certificate, c.Key, _ = strings.Cut(files, ",")
		a.Certificates[hubName(host)] = c
	}
	return a
}

// addMirror adds a mirror, which may be written as a URL. One of plain HTTP is insecure.
func (r *Registries) addMirror(a *registry.Access, host, mirror string) {
	scheme, place, ok := strings.Cut(mirror, "://")
	if !ok {
		scheme, place = "", mirror
	}
	if place == "" {
		return
	}
	a.Mirrors[hubName(host)] = append(a.Mirrors[hubName(host)], strings.TrimSuffix(place, "/"))
	if scheme == "http" {
		at, _, _ := strings.Cut(place, "/")
		a.Insecure = append(a.Insecure, at)
	}
}

// hubName is a host as names of images have it: Docker Hub has several names.
func hubName(host string) string {
	switch host {
	case "", "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}

// pushHosts are the registries of the destinations and of the cache.
func (o *Options) pushHosts() []string {
	var hosts []string
	for _, name := range append(slices.Clone(o.Destinations), o.CacheRepo) {
		if named, err := parseName(name); err == nil {
			hosts = append(hosts, reference.Domain(named))
		}
	}
	return hosts
}

func parseName(name string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, err
	}
	return reference.TagNameOnly(named), nil
}
