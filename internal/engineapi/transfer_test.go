package engineapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/authconfig"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/micabuild/mica/internal/registry/registrytest"
)

func auth(t *testing.T, user, password string) string {
	t.Helper()
	text, err := authconfig.Encode(apiregistry.AuthConfig{Username: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (r *rig) pull(name string, o client.ImagePullOptions) (string, error) {
	r.t.Helper()
	got, err := r.ImagePull(r.t.Context(), name, o)
	if err != nil {
		return "", err
	}
	return text(r.messages(got)), nil
}

func TestPull(t *testing.T) {
	t.Parallel()
	r, reg := newRig(t), registrytest.New(t)
	image := reg.PutImage("team/app", "1", "amd64", nil, registrytest.Layer(t, "f", []byte("x")))
	got, err := r.pull(reg.Name("team/app:1"), client.ImagePullOptions{})
	want := "Pulling from team/app\nPulling fs layer\nDownloading\nPull complete\nDigest: " + image.Digest + "\nStatus: Downloaded newer image for " + reg.Name("team/app:1") + "\n"
	if err != nil || got != want && got != strings.Replace(want, "Downloading\n", "", 1) {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if got, err = r.pull(reg.Name("team/app:1"), client.ImagePullOptions{}); err != nil || !strings.HasSuffix(got, "Status: Image is up to date for "+reg.Name("team/app:1")+"\n") {
		t.Errorf("%v\n%s", err, got)
	}
	reg.PutImage("team/app", "2", "amd64", nil)
	if got, err = r.pull(reg.Name("team/app"), client.ImagePullOptions{All: true}); err != nil || strings.Count(got, "Status: ") != 2 {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := r.pull(reg.Name("team/app:none"), client.ImagePullOptions{}); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "not found: manifest unknown") {
		t.Errorf("%v", err)
	}
	for path, status := range map[string]int{
		"/images/create?fromImage=scratch&tag=latest": 403, "/images/create?fromImage=a&tag=-": 400, "/images/create?fromImage=A": 400, "/images/create?fromImage=a&platform=x/y/z/w": 400,
	} {
		if resp, body := r.do(http.MethodPost, path, nil); resp.StatusCode != status {
			t.Errorf("%s: %s, %s", path, resp.Status, body)
		}
	}
}

// TestCredentials: a request's credentials are for the registry of its image, and for no other.
func TestCredentials(t *testing.T) {
	t.Parallel()
	r, reg := newRig(t), registrytest.New(t)
	reg.PutImage("app", "1", "amd64", nil, registrytest.Layer(t, "f", []byte("x")))
	reg.Misbehave(registrytest.Password("user", "secret"))
	name := reg.Name("app:1")
	for _, header := range []string{"", auth(t, "user", "wrong-one"), "garbage"} {
		_, err := r.pull(name, client.ImagePullOptions{RegistryAuth: header})
		if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "pull access denied for "+reg.Name("app")+", repository does not exist or may require 'docker login'") || strings.Contains(err.Error(), "wrong-one") {
			t.Errorf("%s: %v", header, err)
		}
	}
	if _, err := r.pull(name, client.ImagePullOptions{RegistryAuth: auth(t, "user", "secret")}); err != nil {
		t.Error(err)
	}
	if got, err := r.DistributionInspect(t.Context(), name, client.DistributionInspectOptions{EncodedRegistryAuth: auth(t, "user", "secret")}); err != nil || len(got.Platforms) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for address, password := range map[string]string{reg.Addr: "secret", "http://" + reg.Addr + "/v1/": "secret"} {
		if got, err := r.RegistryLogin(t.Context(), client.RegistryLoginOptions{Username: "user", Password: password, ServerAddress: address}); err != nil || got.Auth.Status != "Login Succeeded" {
			t.Errorf("%s: %+v, %v", address, got, err)
		}
	}
	if _, err := r.RegistryLogin(t.Context(), client.RegistryLoginOptions{Username: "user", Password: "wrong-one", ServerAddress: reg.Addr}); !errdefs.IsUnauthorized(err) || strings.Contains(err.Error(), "wrong-one") {
		t.Errorf("%v", err)
	}
	if resp, body := r.do(http.MethodPost, "/auth", strings.NewReader("{")); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%s, %s", resp.Status, body)
	}
}

func TestHostOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://index.docker.io/v1/": "docker.io", "docker.io": "docker.io", "registry-1.docker.io": "docker.io", "h.test:5000": "h.test:5000", "http://h.test/v2/": "h.test", "https://u:secret@h.test/": "h.test", "": "",
	} {
		if got := hostOf(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	r, reg := newRig(t), registrytest.New(t)
	r.image("one", reg.Name("app:1"), reg.Name("app:2"))
	got, err := r.ImagePush(t.Context(), reg.Name("app:1"), client.ImagePushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	messages := r.messages(got)
	last := messages[len(messages)-1]
	var aux struct {
		Tag, Digest string
		Size        int
	}
	if last.Aux == nil || json.Unmarshal(*last.Aux, &aux) != nil || aux.Tag != "1" || aux.Size != len(reg.Manifest("app", "1").Data) {
		t.Errorf("%+v", last)
	}
	shown := text(messages)
	if !strings.HasPrefix(shown, "The push refers to repository ["+reg.Name("app")+"]\nPreparing\n") || !strings.Contains(shown, "\nPushed\n1: digest: "+aux.Digest+" size: ") {
		t.Error(shown)
	}
	if got, err = r.ImagePush(t.Context(), reg.Name("app"), client.ImagePushOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if shown := text(r.messages(got)); strings.Count(shown, ": digest: ") != 2 {
		t.Error(shown)
	}
	if got, err = r.ImagePush(t.Context(), reg.Name("none:1"), client.ImagePushOptions{}); err != nil {
		t.Fatal(err)
	}
	if shown := text(r.messages(got)); shown != "The push refers to repository ["+reg.Name("none")+"]\nERROR An image does not exist locally with the tag: "+reg.Name("none")+"\n" {
		t.Error(shown)
	}
	reg.Misbehave(registrytest.Password("user", "secret"))
	if got, err = r.ImagePush(t.Context(), reg.Name("app:1"), client.ImagePushOptions{}); err != nil {
		t.Fatal(err)
	}
	if shown := text(r.messages(got)); !strings.Contains(shown, "ERROR ") {
		t.Error(shown)
	}
}

func TestDistribution(t *testing.T) {
	t.Parallel()
	r, reg := newRig(t), registrytest.New(t)
	index, _, _ := reg.PutPlatforms("app", "1")
	got, err := r.DistributionInspect(t.Context(), reg.Name("app:1"), client.DistributionInspectOptions{})
	if err != nil || got.Descriptor.Digest.String() != index.Digest || len(got.Platforms) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	for path, status := range map[string]int{"/distribution/A/json": 400, "/distribution/a": 404, "/distribution/" + reg.Name("none") + "/json": 404} {
		if resp, body := r.do(http.MethodGet, path, nil); resp.StatusCode != status {
			t.Errorf("%s: %s, %s", path, resp.Status, body)
		}
	}
}
