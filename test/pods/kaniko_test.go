//go:build e2e

package pods

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// kanikoFlags are the flags with which Kaniko's tests build some of its Dockerfiles (integration/images.go).
var kanikoFlags = map[string][]string{
	"Dockerfile_test_run":        {"--build-arg=file=/file"},
	"Dockerfile_test_run_new":    {"--build-arg=file=/file", "--use-new-run=true"},
	"Dockerfile_test_run_redo":   {"--build-arg=file=/file", "--snapshot-mode=redo"},
	"Dockerfile_test_workdir":    {"--build-arg=workdir=/arg/workdir"},
	"Dockerfile_test_arg_secret": {"--build-arg=SSH_PRIVATE_KEY", "--build-arg=SSH_PUBLIC_KEY=public"},
	"Dockerfile_test_scratch":    {"--build-arg=image=scratch", "--build-arg=file=context/foo", "--build-arg=file3=context/b*", "--single-snapshot"},
	"Dockerfile_test_maintainer": {"--single-snapshot"},
	"Dockerfile_test_target":     {"--target=second"},
	"Dockerfile_test_multistage": {"--build-arg=file=/foo2"},
}

// kanikoSkipped are Dockerfiles of Kaniko that are not built, with the reason.
var kanikoSkipped = map[string]string{
	"Dockerfile_test_add":                          "it downloads from GitHub",
	"Dockerfile_test_add_404":                      "it downloads what does not exist",
	"Dockerfile_test_add_url_with_arg":             "it downloads from GitHub",
	"Dockerfile_test_parent_dir_perms":             "it downloads from GitHub",
	"Dockerfile_test_cache_install":                "it installs Debian's packages from the network",
	"Dockerfile_test_cache_install_oci":            "it installs Debian's packages from the network",
	"Dockerfile_test_issue_2049":                   "it installs Debian's packages from the network",
	"Dockerfile_test_issue_2066":                   "it installs Ubuntu's packages from the network",
	"Dockerfile_test_issue_1039":                   "it installs Red Hat's packages from the network",
	"Dockerfile_test_issue_1837":                   "it installs Red Hat's packages from the network",
	"Dockerfile_test_hardlink":                     "its base image, which has git, is Kaniko's own",
	"Dockerfile_test_add_chown_intermediate_dirs":  "it needs Alpine's adduser",
	"Dockerfile_test_copy_chown_intermediate_dirs": "it needs Alpine's adduser",
	"Dockerfile_test_from_multistage_capital":      "BuildKit's compiler takes a stage with capitals for an image",
	"Dockerfile_test_issue_519":                    "BuildKit's compiler takes a stage with capitals for an image",
	"Dockerfile_test_volume_2":                     "VOLUME makes no directory, as in BuildKit",
}

// kanikoDebian are Dockerfiles that need programs and files of Debian. The others have busybox for their base images: it is smaller.
var kanikoDebian = []string{
	"Dockerfile_test_user_home", "Dockerfile_test_user_nonexisting", "Dockerfile_test_user_run", "Dockerfile_test_workdir_with_user",
	"Dockerfile_test_copy_chown_nonexisting_user", "Dockerfile_test_meta_arg", "Dockerfile_test_multistage",
}

// digests are those of base images, which the stand-ins do not have.
var digests = regexp.MustCompile(`@sha256:[0-9a-f]{64}`)

// kanikoModule returns a copy of Kaniko's integration tests.
func kanikoModule(t *testing.T, to string) {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", "github.com/chainguard-dev/kaniko")
	cmd.Dir = filepath.Join(rig.Top(), "test", "pods", "kaniko")
	out := rig.Run(t, cmd)
	var module struct{ Dir, Error string }
	if err := json.Unmarshal([]byte(out.Stdout), &module); err != nil || module.Dir == "" {
		t.Fatalf("go mod download: %v\n%s%s", err, out.Stdout, out.Stderr)
	}
	rig.Must(t, "cp", "-r", filepath.Join(module.Dir, "integration"), to)
	rig.Must(t, "chmod", "-R", "u+w", to)
}

// standIns starts a registry that has an image for each name: below debian one of Debian, and else one of busybox.
func standIns(t *testing.T) (mirror, registry string) {
	t.Helper()
	host, registry := pushedBase(t)
	debian := filepath.Join(rig.Top(), "bin", "demo", "debian.tar")
	rig.Must(t, filepath.Join(rig.Top(), "scripts", "debian-base"), debian)
	host.Run("import", debian, registry+"/debian")
	host.Run("push", registry+"/debian")
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	path := regexp.MustCompile(`^/v2/(.+)/(manifests|blobs)/([^/]+)$`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m := path.FindStringSubmatch(r.URL.Path); m != nil {
			image, ref := "base", m[3]
			if strings.HasPrefix(m[1], "debian/") {
				image = "debian"
			}
			if !strings.HasPrefix(ref, "sha256:") {
				ref = "latest"
			}
			r.URL.Path = "/v2/" + image + "/" + m[2] + "/" + ref
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), registry
}

// Kaniko's own Dockerfiles build in the image for its users, in a pod with the default capabilities, to the images that mica makes on a host.
func TestKanikoDockerfiles(t *testing.T) {
	mirror, registry := standIns(t)
	p := newImagePod(t, levelC, "mica-kaniko-image.tar", "/kaniko/executor")
	p.env = []string{"PATH=/usr/local/bin:/kaniko:/usr/bin:/bin:/busybox", "SSL_CERT_DIR=/kaniko/ssl/certs", "HOME=/root", "SSH_PRIVATE_KEY=private"}
	host := rig.NewMica(t)
	host.Env = append(host.Env, "SSH_PRIVATE_KEY=private")
	kanikoModule(t, p.work("kaniko"))
	rig.Must(t, "find", p.work("kaniko"), "-exec", "touch", "-h", "-d", "2021-03-04 05:06:07", "{}", "+")
	files, err := filepath.Glob(p.work("kaniko/dockerfiles/Dockerfile_test_*"))
	if err != nil || len(files) < 70 {
		t.Fatalf("%d Dockerfiles: %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			if reason, ok := kanikoSkipped[name]; ok {
				t.Skip(reason)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, digests.ReplaceAll(text, nil), 0o644); err != nil {
				t.Fatal(err)
			}
			from := mirror + "/busybox"
			if slices.Contains(kanikoDebian, name) {
				from = mirror + "/debian"
			}
			flags := func(context, to string) []string {
				return append([]string{
					"--context=" + context, "--dockerfile=dockerfiles/" + name, "--destination=" + registry + "/" + to + "/" + strings.ToLower(name),
					"--reproducible", "--registry-map=docker.io=" + from + ";gcr.io=" + from, "--skip-default-registry-fallback",
				}, kanikoFlags[name]...)
			}
			if out := p.try(flags("/work/kaniko", "pod")...); out.Code != 0 {
				t.Fatalf("exit code %d\n%s", out.Code, out.Stderr)
			}
			host.Run(append([]string{"executor"}, flags(p.work("kaniko"), "host")...)...)
			if strings.Contains(string(text), "date") {
				return
			}
			digest := func(of string) string {
				return host.Run("image", "inspect", "--remote", "--format", "{{.Descriptor.Digest}}", registry+"/"+of+"/"+strings.ToLower(name))
			}
			if got, want := digest("pod"), digest("host"); got != want {
				t.Errorf("another image than on the host:\n%s", host.Try(nil, "diff", registry+"/host/"+strings.ToLower(name), registry+"/pod/"+strings.ToLower(name)).Stdout)
			}
		})
	}
}
