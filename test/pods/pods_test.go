//go:build e2e

// Package pods runs mica as Kubernetes would start it in a pod, at each level of rights: by runc, with containerd's seccomp profile and
// capabilities.
package pods

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/test/rig"
)

// copyOnly is a build that needs no process: owners, modes, links, removals, stages.
const copyOnly = `FROM base AS first
COPY --chown=33:50 --chmod=2755 tree /srv/tree
COPY --chown=www:staff one /srv/
ADD archive.tar /opt/
WORKDIR /made/by/workdir
FROM base
COPY --from=first /srv /copied
COPY --from=first --chown=7:8 --chmod=600 /srv/one /one
COPY --from=first /opt /opt
COPY --from=base /usr/bin/netcap /usr/bin/tool /bin/
`

// makeContext makes the context of copyOnly, and the base image as a tar.
func makeContext(t *testing.T, dir, dockerfile string) {
	t.Helper()
	rig.Must(t, "sh", "-ec", `
mkdir -p "$1/tree/sub"; cd "$1"
echo one >one; echo two >tree/sub/two; ln -s sub/two tree/link; ln tree/sub/two tree/hard
mkdir in; echo x >in/setuid; chmod 4755 in/setuid; chown 1:2 in/setuid; mknod in/null c 1 3; mkfifo in/pipe
tar cf archive.tar -C in .; rm -r in
find . -exec touch -h -d '2021-03-04 05:06:07' {} +`, "sh", dir)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
}

// makeBase makes the base image on the host, and saves it for the pods: its ID depends on when it was imported.
func makeBase(t *testing.T, host *rig.Mica, dir string) {
	t.Helper()
	rig.ImportBusybox(t, host, "base")
	host.Run("save", "-o", filepath.Join(dir, "base.tar"), "base")
}

// buildArgs are the arguments of a build whose bytes depend on nothing but the inputs.
func buildArgs(context, archive string) []string {
	return []string{"build", "--progress=plain", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-t", "app:1", "-o", "type=oci,rewrite-timestamp=true,dest=" + archive, context}
}

// Without a process, everything works in every pod, and the image is that of mica on a host.
func TestCopyOnly(t *testing.T) {
	context := filepath.Join(rig.TempDir(t), "context")
	makeContext(t, context, copyOnly)
	host := rig.NewMica(t)
	images := rig.TempDir(t)
	makeBase(t, host, images)
	want := filepath.Join(rig.TempDir(t), "want.tar")
	host.Run(buildArgs(context, want)...)
	server := httptest.NewServer(registrytest.NewMemory())
	defer server.Close()
	registry := strings.TrimPrefix(server.URL, "http://")
	for _, l := range []level{levelB, levelC, levelD} {
		t.Run(l.name, func(t *testing.T) {
			p := newPod(t, l)
			rig.Must(t, "cp", "-a", context, p.work("context"))
			p.load(filepath.Join(images, "base.tar"))
			p.run(buildArgs("/work/context", "/work/got.tar")...)
			if out := rig.Run(t, exec.Command("cmp", want, p.work("got.tar"))); out.Code != 0 {
				t.Errorf("another image: %s", out.Stdout)
			}
			p.run("build", "--progress=plain", "-t", registry+"/"+strings.ToLower(l.name)+"/app:1", "--push", "/work/context")
			p.run("pull", registry+"/"+strings.ToLower(l.name)+"/app:1")
			p.run("tag", registry+"/"+strings.ToLower(l.name)+"/app:1", "other:1")
			if list := p.run("images", "--format", "{{.Repository}}"); !strings.Contains(list, "other\n") {
				t.Errorf("images: %s", list)
			}
			p.run("import", "/work/context/archive.tar", "imported")
			p.run("save", "-o", "/work/saved.tar", "other:1")
			p.run("rmi", "other:1")
			p.run("load", "-i", "/work/saved.tar")
			p.run("image", "prune", "--all", "--force")
		})
	}
}

// A RUN, where no process can be isolated, fails with the cause and what to do.
func TestNoIsolation(t *testing.T) {
	p := newPod(t, levelD)
	p.unmark()
	makeContext(t, p.work("context"), "FROM base\nRUN true\n")
	images := rig.TempDir(t)
	makeBase(t, rig.NewMica(t), images)
	p.load(filepath.Join(images, "base.tar"))
	out := p.try("build", "--progress=plain", "/work/context")
	if out.Code != 1 || !strings.Contains(out.Stderr, "no process can be isolated here") || !strings.Contains(out.Stderr, "RuntimeDefault") {
		t.Errorf("exit code %d\n%s", out.Code, out.Stderr)
	}
	if info := p.run("info"); !strings.Contains(info, "Isolation of processes: none") || !strings.Contains(info, "seccomp") {
		t.Errorf("info: %s", info)
	}
	for flag, want := range map[string]string{"oci": "enter user namespace", "none": "the isolation that was chosen", "x": "invalid isolation"} {
		if out := p.try("build", "--isolation", flag, "/work/context"); out.Code == 0 || !strings.Contains(out.Stderr, want) {
			t.Errorf("--isolation %s: exit code %d\n%s", flag, out.Code, out.Stderr)
		}
	}
}

// Where the pod may have user namespaces, an OCI runtime runs the steps: owners, modes, capabilities and devices are those of a build on a host.
func TestNested(t *testing.T) {
	const dockerfile = `FROM base
RUN echo run >/run-file && chown 33:50 /run-file && chmod 2750 /run-file && mkdir -p /d/e && ln -s e /d/link && rm /one 2>/dev/null; true
RUN test "$(stat -c %u:%g:%a /run-file)" = 33:50:2750 && test -r /proc/self/status && head -c 1 /dev/zero >/zero
USER dev
RUN touch /home/dev/mine && test "$(id -u)" = 1000
`
	context := filepath.Join(rig.TempDir(t), "context")
	makeContext(t, context, dockerfile)
	host, images := rig.NewMica(t), rig.TempDir(t)
	makeBase(t, host, images)
	want := filepath.Join(images, "want.tar")
	host.Run(buildArgs(context, want)...)
	p := newPod(t, levelA)
	rig.Must(t, "cp", "-a", context, p.work("context"))
	p.load(filepath.Join(images, "base.tar"))
	p.run(buildArgs("/work/context", "/work/got.tar")...)
	if out := rig.Run(t, exec.Command("cmp", want, p.work("got.tar"))); out.Code != 0 {
		t.Errorf("another image: %s", out.Stdout)
	}
	if info := p.run("info"); !strings.Contains(info, "Isolation of processes: oci") {
		t.Errorf("info: %s", info)
	}
	// Where no step can have a /proc, another isolation is chosen.
	p = newPod(t, level{name: "A, masked", users: true, unconfined: true})
	p.load(filepath.Join(images, "base.tar"))
	makeContext(t, p.work("context"), "FROM base\nRUN true\n")
	p.run("build", "/work/context")
	if info := p.run("info"); !strings.Contains(info, "Isolation of processes: fakeroot") || !strings.Contains(info, "procMount: Unmasked") {
		t.Errorf("info: %s", info)
	}
	if out := p.try("build", "--isolation=oci", "/work/context"); out.Code != 1 || !strings.Contains(out.Stderr, "procMount: Unmasked") {
		t.Errorf("--isolation=oci: exit code %d\n%s", out.Code, out.Stderr)
	}
}

// runSteps is a build with what a RUN can do to files: each of its layers is that of a build on a host.
const runSteps = `FROM base
COPY --chown=33:50 tree /srv/tree
RUN echo run >/run-file && chown 33:50 /run-file && chmod 2750 /run-file && mkdir -p /d/e && ln -s e /d/link && ln /run-file /d/hard
RUN test "$(stat -c %u:%g:%a /run-file)" = 33:50:2750 && head -c 1 /dev/zero >/zero && rm /d/hard && rm -r /srv/tree/sub && rm /zero
RUN --mount=type=bind,target=/context,source=tree --mount=type=secret,id=s,target=/secret --mount=type=tmpfs,target=/memory \
    --mount=type=cache,target=/cache test "$(cat /secret)" = secret && cp -r /context /copied && touch /memory/x /cache/x && test ! -e /memory/y
RUN --mount=type=cache,target=/cache test -e /cache/x && rm -r /d/e && mkdir -m 700 /d/e && touch /d/e/new && mv /copied /moved
USER dev
WORKDIR /home/dev
RUN touch mine && test "$(id -u)" = 1000 && test "$(pwd)" = /home/dev && ! touch /root-only 2>/dev/null
USER root
RUN (sleep 100000 &) && cp /usr/bin/netcap /bin/other && test -e /etc/resolv.conf
`

// Where there is no namespace but root has chroot, steps run in a copy of the root filesystem.
func TestChroot(t *testing.T) {
	context := filepath.Join(rig.TempDir(t), "context")
	makeContext(t, context, runSteps)
	host, images := rig.NewMica(t), rig.TempDir(t)
	makeBase(t, host, images)
	if err := os.WriteFile(filepath.Join(context, ".secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := func(context, archive string) []string {
		list := buildArgs(context, archive)
		return append(list[:len(list)-1], "--secret", "id=s,src="+context+"/.secret", context)
	}
	want := filepath.Join(images, "want.tar")
	host.Run(args(context, want)...)
	p := newPod(t, levelC)
	rig.Must(t, "cp", "-a", context, p.work("context"))
	p.load(filepath.Join(images, "base.tar"))
	p.run(args("/work/context", "/work/got.tar")...)
	if out := rig.Run(t, exec.Command("cmp", want, p.work("got.tar"))); out.Code != 0 {
		t.Errorf("another image: %s", out.Stdout)
	}
	if info := p.run("info"); !strings.Contains(info, "Isolation of processes: chroot") {
		t.Errorf("info: %s", info)
	}
	for step, want := range map[string]string{
		"RUN --network=none true": "--network=none", "RUN exit 7": "exit code: 7", "RUN /no/such": "exit code: 127",
		"RUN chroot / true": "exit code: 1",
	} {
		if err := os.WriteFile(p.work("context/Dockerfile"), []byte("FROM base\n"+step+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := p.try("build", "--progress=plain", "/work/context"); out.Code != 1 || !strings.Contains(out.Stderr, want) || strings.Contains(out.Stderr, "To look into it") {
			t.Errorf("%s: exit code %d\n%s", step, out.Code, out.Stderr)
		}
	}
	for _, dir := range []string{"tmp"} {
		if list, err := os.ReadDir(p.work("store/" + dir)); err == nil && len(list) > 0 {
			t.Errorf("left in the store's %s: %v", dir, list)
		}
	}
}
