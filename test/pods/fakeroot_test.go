//go:build e2e

package pods

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/micabuild/mica/test/rig"
)

// moreSteps change files that the pod has, too, and the stage.
const moreSteps = `RUN (sleep 100000 &) && test -e /etc/resolv.conf && echo more >>/etc/passwd && rm /etc/group && mkdir /etc/new
FROM base
RUN test ! -e /run-file && test -e /etc/group && touch /other
COPY --from=0 /moved /moved
COPY --from=0 /etc /copied
`

// Where there is neither a namespace nor chroot, steps run in the root directory of the pod.
func TestFakeroot(t *testing.T) {
	context := filepath.Join(rig.TempDir(t), "context")
	makeContext(t, context, runSteps+moreSteps)
	host, images := rig.NewMica(t), rig.TempDir(t)
	makeBase(t, host, images)
	if err := os.WriteFile(filepath.Join(context, ".secret"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := func(context, archive string) []string {
		list := buildArgs(context, archive)
		return append(list[:len(list)-1], "--secret", "id=s,src="+context+"/.secret", context)
	}
	want := filepath.Join(images, "want.tar")
	host.Run(args(context, want)...)
	for _, l := range []level{levelB, levelD} {
		t.Run(l.name, func(t *testing.T) {
			p := newPod(t, l)
			rig.Must(t, "cp", "-a", context, p.work("context"))
			p.load(filepath.Join(images, "base.tar"))
			before := p.files()
			p.run(args("/work/context", "/work/got.tar")...)
			if out := rig.Run(t, exec.Command("cmp", want, p.work("got.tar"))); out.Code != 0 {
				t.Errorf("another image: %s", out.Stdout)
			}
			testFakerootPod(t, p, before)
		})
	}
}

// testFakerootPod checks that builds that fail or are killed leave the pod as it was.
func testFakerootPod(t *testing.T, p *pod, before string) {
	if after := p.files(); after != before {
		t.Errorf("the root directory has\n%s\nwant\n%s", after, before)
	}
	if info := p.run("info"); !strings.Contains(info, "Isolation of processes: fakeroot") {
		t.Errorf("info: %s", info)
	}
	for step, want := range map[string]string{
		"RUN exit 7": "exit code: 7", "RUN /no/such": "exit code: 127", "RUN --mount=type=tmpfs,target=/etc/resolv.conf true": "the pod has a mount there",
		"RUN --network=none true": "--network=none", "RUN ! grep -qa MICA_ROOT /proc/[0-9]*/environ": "",
	} {
		p.write("context/Dockerfile", "FROM base\n"+step+"\n")
		if out := p.try("build", "--progress=plain", "/work/context"); (out.Code == 0) != (want == "") || !strings.Contains(out.Stderr, want) {
			t.Errorf("%s: exit code %d\n%s", step, out.Code, out.Stderr)
		}
	}
	// A build that is killed leaves nothing to the next.
	p.write("context/Dockerfile", "FROM base\nRUN touch /left && while :; do sleep 1; done\n")
	killed, name := p.command("build", "/work/context")
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- killed.Wait() }()
	for len(ended) == 0 && !exists(filepath.Join(p.dir, "rootfs/left")) {
		time.Sleep(time.Millisecond)
	}
	rig.Run(t, p.runc("kill", name, "KILL"))
	if err := <-ended; err == nil {
		t.Error("the build has succeeded")
	}
	p.write("context/Dockerfile", "FROM base\nRUN test ! -e /left\n")
	p.run("build", "/work/context")
	if after := p.files(); after != before {
		t.Errorf("the root directory has\n%s\nwant\n%s", after, before)
	}
}

// Without the mark of mica's image, a root directory is never touched.
func TestFakerootWithoutMarker(t *testing.T) {
	p := newPod(t, levelB)
	p.unmark()
	makeContext(t, p.work("context"), "FROM scratch\nCOPY one /\nRUN [\"/x\"]\n")
	if out := p.try("build", "--isolation=fakeroot", "/work/context"); out.Code != 1 || !strings.Contains(out.Stderr, "not made of mica's image") {
		t.Errorf("exit code %d\n%s", out.Code, out.Stderr)
	}
	if out := p.try("build", "/work/context"); out.Code != 1 || !strings.Contains(out.Stderr, "no process can be isolated here") {
		t.Errorf("exit code %d\n%s", out.Code, out.Stderr)
	}
}

// files lists the pod's root directory, but not what mica keeps there.
func (p *pod) files() string {
	p.t.Helper()
	return rig.Must(p.t, "sh", "-c", `cd "$1"; find . -path ./mica/roots -prune -o -print | sort`, "sh", filepath.Join(p.dir, "rootfs"))
}

// write writes a file of the pod's volume.
func (p *pod) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(p.work(name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
