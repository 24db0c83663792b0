//go:build e2e

package pods

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/test/rig"
)

// newImagePod makes a pod with one of mica's own images, as the release has it.
func newImagePod(t *testing.T, l level, archive, program string) *pod {
	t.Helper()
	path := filepath.Join(rig.Top(), "bin", "dist", archive)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run the tests by make", err)
	}
	p := &pod{t: t, level: l, dir: rig.TempDir(t), program: program}
	host := rig.NewMica(t)
	host.Run("load", "-i", path)
	name := strings.Fields(host.Run("images", "--format", "{{.Repository}}:{{.Tag}}"))[0]
	saved := filepath.Join(p.dir, "saved")
	rig.Must(t, "mkdir", saved, filepath.Join(p.dir, "rootfs"), filepath.Join(p.dir, "work"))
	host.Run("save", "-o", saved+".tar", name)
	rig.Must(t, "tar", "-C", saved, "-xf", saved+".tar")
	for _, layer := range savedLayers(t, saved) {
		rig.Must(t, "tar", "-C", filepath.Join(p.dir, "rootfs"), "--numeric-owner", "--same-permissions", "--xattrs", "--xattrs-include=*", "-xf", layer)
	}
	rig.Must(t, "rm", "-r", saved, saved+".tar")
	for _, dir := range []string{"proc", "sys", "dev", "work"} {
		rig.Must(t, "mkdir", "-p", filepath.Join(p.dir, "rootfs", dir))
	}
	p.overlay()
	p.open()
	return p
}

// savedLayers returns the layers of an image that was saved to a directory: unlike an export, they have the owner of the root directory.
func savedLayers(t *testing.T, dir string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var images []struct{ Layers []string }
	if err := json.Unmarshal(data, &images); err != nil || len(images) != 1 {
		t.Fatalf("%s: %v", data, err)
	}
	for i, layer := range images[0].Layers {
		images[0].Layers[i] = filepath.Join(dir, layer)
	}
	return images[0].Layers
}

// overlay has the pod's root directory be an overlay of the image, as containerd makes it: the root itself has the owner of the image's, but a
// mode of its own.
func (p *pod) overlay() {
	t, image, root := p.t, filepath.Join(p.dir, "image"), filepath.Join(p.dir, "rootfs")
	t.Helper()
	if err := os.Rename(root, image); err != nil {
		t.Fatal(err)
	}
	if p.level.users {
		rig.Must(t, "chown", "-R", "200000:200000", image) // the mount has mapped ids
	}
	for _, dir := range []string{root, filepath.Join(p.dir, "upper"), filepath.Join(p.dir, "overlay")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	rig.Must(t, "chown", "--reference="+image, filepath.Join(p.dir, "upper"))
	options := "lowerdir=" + image + ",upperdir=" + filepath.Join(p.dir, "upper") + ",workdir=" + filepath.Join(p.dir, "overlay")
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
}

// keepRootMode gives the pod's root directory the mode of the image's, as CRI-O does (containers/storage, drivers/overlay).
func (p *pod) keepRootMode() {
	p.t.Helper()
	info, err := os.Stat(filepath.Join(p.dir, "image"))
	if err == nil {
		err = os.Chmod(filepath.Join(p.dir, "rootfs"), info.Mode().Perm())
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// pushedBase pushes a base image with the times of a build on the host to a registry.
func pushedBase(t *testing.T) (host *rig.Mica, registry string) {
	t.Helper()
	reg, err := rig.StartRegistry(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Stop() })
	host = rig.NewMica(t)
	rig.ImportBusybox(t, host, reg.Addr+"/base")
	host.Run("push", reg.Addr+"/base")
	return host, reg.Addr
}

// The image for Kaniko's users builds and pushes in a pod with the default capabilities what mica builds on a host. A second build finds every
// step in the cache repository.
func TestKanikoImage(t *testing.T) {
	host, registry := pushedBase(t)
	p := newImagePod(t, levelC, "mica-kaniko-image.tar", "/kaniko/executor")
	p.env = []string{"PATH=/usr/local/bin:/kaniko:/usr/bin:/bin:/busybox", "DOCKER_CONFIG=/kaniko/.docker/", "SSL_CERT_DIR=/kaniko/ssl/certs", "HOME=/root"}
	makeContext(t, p.work("context"), strings.ReplaceAll(runSteps, "FROM base", "FROM "+registry+"/base"))
	if err := os.WriteFile(p.work("context/.secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	host.Run("build", "--pull", "--progress=plain", "--secret", "id=s,src="+p.work("context/.secret"), "-t", registry+"/host",
		"-o", "type=registry,rewrite-timestamp=true,source-date-epoch=0", p.work("context"))
	args := []string{
		"--context=dir:///work/context", "--dockerfile=Dockerfile", "--reproducible", "--secret=id=s,src=/work/context/.secret",
		"--cache=true", "--cache-repo=" + registry + "/cache", "--tar-path=/work/app.tar", "--digest-file=/work/digest",
	}
	p.run(append(args, "--destination="+registry+"/pod:1")...)
	digest := func(name string) string {
		return strings.TrimSpace(host.Run("image", "inspect", "--remote", "--format", "{{.Descriptor.Digest}}", registry+"/"+name))
	}
	want := digest("host")
	if got := digest("pod:1"); got != want {
		t.Errorf("pushed %s, want %s: %s", got, want, host.Try(nil, "diff", registry+"/host", registry+"/pod:1").Stdout)
	}
	if got, err := os.ReadFile(p.work("digest")); err != nil || string(got) != want {
		t.Errorf("digest file: %q, %v, want %s", got, err, want)
	}
	if loaded := rig.NewMica(t).Run("load", "-i", p.work("app.tar")); !strings.Contains(loaded, registry+"/pod:1") {
		t.Errorf("load: %s", loaded)
	}
	if err := os.RemoveAll(p.work("store")); err != nil { // another pod
		t.Fatal(err)
	}
	again := p.try(append(args, "--no-push")...)
	if runs := strings.Count(runSteps, "\nRUN "); again.Code != 0 || strings.Count(again.Stderr, "CACHED") < runs {
		t.Errorf("again: exit code %d\n%s", again.Code, again.Stderr)
	}
	if got, err := os.ReadFile(p.work("digest")); err != nil || string(got) != want {
		t.Errorf("without a push: digest %q, %v, want %s", got, err, want)
	}
}

// Both images run steps where a pod has neither namespaces nor capabilities: their root directories may be lent to steps.
func TestImagesWithoutRights(t *testing.T) {
	_, registry := pushedBase(t)
	context := filepath.Join(rig.TempDir(t), "context")
	makeContext(t, context, "FROM "+registry+"/base\nRUN echo run >/run-file\nRUN cat /run-file >/copy\nRUN rm -rf /var/run && ln -s /run /var/run\nRUN echo x >/run/x\n")
	want := filepath.Join(rig.TempDir(t), "want.tar")
	rig.NewMica(t).Run(buildArgs(context, want)...)
	for _, l := range []level{levelB, levelD} {
		t.Run(l.name, func(t *testing.T) {
			p := newImagePod(t, l, "mica-image.tar", "/usr/bin/mica")
			rig.Must(t, "cp", "-a", context, p.work("context"))
			// A pod has the token of its service account there. Most images have a link at /var/run.
			token := specs.Mount{Destination: "/var/run/secrets/kubernetes.io/serviceaccount", Type: "tmpfs", Source: "tmpfs"}
			p.volumes = append(p.volumes, token)
			p.run("info") // the runtime makes its mount point
			before := p.files()
			for range 2 { // the second finds what the first has moved
				p.run(append(buildArgs("/work/context", "/work/got.tar"), "--no-cache")...)
				rig.Must(t, "cmp", want, p.work("got.tar"))
			}
			if after := p.files(); after != before {
				t.Errorf("the root directory has\n%s\nwant\n%s", after, before)
			}
			p = newImagePod(t, l, "mica-kaniko-image.tar", "/kaniko/executor")
			rig.Must(t, "cp", "-a", context, p.work("context"))
			p.run("--context=/work/context", "--destination="+registry+"/b", "--tar-path=/work/app.tar")
			if link, err := os.Readlink(filepath.Join(p.dir, "rootfs", "kaniko", "executor")); err != nil || link != "/usr/bin/mica" {
				t.Errorf("/kaniko/executor afterwards: %q, %v", link, err)
			}
		})
	}
}

// mica's own image has what a RUN needs: crun for root of a pod with a user namespace, and newuidmap with its file capabilities for
// an ordinary user of a container without a seccomp profile.
func TestOwnImage(t *testing.T) {
	_, registry := pushedBase(t)
	context := filepath.Join(rig.TempDir(t), "context")
	const steps = "FROM base\nRUN echo run >/run-file && chown 33:50 /run-file && chmod 2750 /run-file\nRUN test \"$(stat -c %u:%g:%a /run-file)\" = 33:50:2750\n"
	makeContext(t, context, strings.ReplaceAll(steps, "FROM base", "FROM "+registry+"/base"))
	want := filepath.Join(rig.TempDir(t), "want.tar")
	rig.NewMica(t).Run(buildArgs(context, want)...)
	for _, l := range []level{levelA, {name: "ordinary user", uid: 1000, unmasked: true, unconfined: true}} {
		t.Run(l.name, func(t *testing.T) {
			p := newImagePod(t, l, "mica-image.tar", "/usr/bin/mica")
			rig.Must(t, "cp", "-a", context, p.work("context"))
			p.run(buildArgs("/work/context", "/work/got.tar")...)
			rig.Must(t, "cmp", want, p.work("got.tar"))
			if info := p.run("info"); !strings.Contains(info, "Isolation of processes: oci") {
				t.Errorf("info: %s", info)
			}
		})
	}
}
