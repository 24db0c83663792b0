//go:build e2e

package registry

import (
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// TestMemoryIsARegistry: crane and skopeo take the registry in memory for a real one. A test that rests on a bad registry
// proves nothing.
func TestMemoryIsARegistry(t *testing.T) {
	m := registrytest.New(t)
	index, ours, _ := m.PutPlatforms("app", "1")
	crane(t, "validate", "--remote", m.Name("app:1"))
	crane(t, "copy", m.Name("app:1"), m.Name("copy/app:2"))
	if got := crane(t, "digest", m.Name("copy/app:2")); got != index.Digest {
		t.Errorf("crane copied %s to %s", index.Digest, got)
	}
	if got := crane(t, "ls", m.Name("copy/app")); got != "2" {
		t.Errorf("tags: %s", got)
	}
	if got := crane(t, "catalog", m.Addr); got != "app\ncopy/app" {
		t.Errorf("repositories: %s", got)
	}
	dir := rig.TempDir(t)
	rig.Must(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+m.Name("app@"+ours.Digest), "oci:"+dir+":x")
	rig.Must(t, "skopeo", "copy", "-q", "--dest-tls-verify=false", "oci:"+dir+":x", "docker://"+m.Name("third:x"))
	if got := m.Manifest("third", "x"); registrytest.Digest(got.Data) != ours.Digest {
		t.Errorf("skopeo made %s of %s", got.Data, ours.Digest)
	}
	if len(m.SeenBy("PUT", registrytest.Upload)) == 0 || len(m.Seen(registrytest.Manifest)) == 0 {
		t.Error("the proxy does not write down what passes")
	}
}

// TestFaultsAreFaults: skopeo, told to try once, fails at each of them; and works without.
func TestFaultsAreFaults(t *testing.T) {
	m := registrytest.New(t)
	m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "f", registrytest.Noise(100_000)))
	pull := func() error {
		return exec.Command("skopeo", "copy", "-q", "--retry-times", "0", "--src-tls-verify=false", "docker://"+m.Name("app:1"), "dir:"+rig.TempDir(t)).Run()
	}
	for name, fault := range map[string]registrytest.Fault{
		"cut": registrytest.Cut(0), "hangup": registrytest.Hangup, "500": registrytest.Status(500), "short": registrytest.Short(1), "long": registrytest.Long(1), "flip": registrytest.Flip(),
		"wrong": registrytest.Wrong("text/plain", []byte("x")),
	} {
		m.Misbehave(func(r registrytest.Request) registrytest.Fault {
			if r.Kind == registrytest.Blob {
				return fault
			}
			return nil
		})
		if pull() == nil {
			t.Errorf("%s: skopeo does not mind", name)
		}
		m.Behave()
	}
	if err := pull(); err != nil {
		t.Errorf("without a fault: %v", err)
	}
}

// TestRegistriesWithPasswords: skopeo gets in with the password, and not without.
func TestRegistriesWithPasswords(t *testing.T) {
	secure, err := rig.StartSecureRegistry(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	started(t, &secure.Registry, nil)
	tokens := rig.NewTokenServer(t)
	tokens.Public = []string{"public/app"}
	r, err := tokens.StartRegistry(rig.TempDir(t))
	withTokens := started(t, r, err)

	m := registrytest.New(t)
	m.PutImage("app", "1", runtime.GOARCH, nil, registrytest.Layer(t, "f", []byte("x")))
	skopeo := func(args ...string) error {
		args = append([]string{"copy", "-q", "--src-tls-verify=false"}, args...)
		return exec.Command("skopeo", args...).Run()
	}
	from, creds := "docker://"+m.Name("app:1"), rig.User+":"+rig.Password
	for to, flags := range map[string][]string{
		"docker://" + secure.Addr + "/app:1":       {"--dest-cert-dir", secure.CertsD + "/" + secure.Addr},
		"docker://" + withTokens + "/public/app:1": {"--dest-tls-verify=false"},
	} {
		if skopeo(append(flags, "--dest-creds", rig.User+":wrong", from, to)...) == nil || skopeo(append(flags, from, to)...) == nil {
			t.Errorf("%s lets everybody in", to)
		}
		if err := skopeo(append(flags, "--dest-creds", creds, from, to)...); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	if got := rig.Must(t, "skopeo", "inspect", "--tls-verify=false", "-f", "{{.Digest}}", "docker://"+withTokens+"/public/app:1"); !strings.HasPrefix(got, "sha256:") {
		t.Errorf("nobody may pull what is public: %s", got)
	}
	if !slices.ContainsFunc(tokens.Seen(), func(r rig.TokenRequest) bool {
		return r.User == "" && slices.Equal(r.Scopes, []string{"repository:public/app:pull"})
	}) {
		t.Errorf("the token server saw %+v", tokens.Seen())
	}
}
