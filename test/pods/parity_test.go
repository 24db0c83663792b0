//go:build e2e

package pods

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/test/compare"
	"github.com/micabuild/mica/test/parity/cases"
	"github.com/micabuild/mica/test/rig"
)

// other are the parity cases whose result in a pod is not that of the host, with the reason. A case that gives the same must not be here.
var other = []struct {
	levels, reason string
	cases          []string
}{
	{"A", "no device can be made in a user namespace", []string{
		"copy/devices-in-context", "copy/replaces-special-files", "run/metadata", "security/defaults",
	}},
	{"A", "/sys is that of the pod", []string{"network/none", "network/none-flag", "run/network-none"}},
	{"A", "the step shows its security settings", []string{"run/sandbox-view"}},
	{"A", "the pod is not privileged, so that no step is", []string{"security/insecure"}},
	{"BD", "the user of the pod may not read a file of the context", []string{"copy/modes", "copy/modes-on-folders", "copy/chmod-octal"}},
	{"B", "the user of the pod may not read a file of the context", []string{"copy/modes-with-chown"}},
	{"BCD", "a directory is renamed, where on overlayfs mv copies it", []string{"copy/odd-bytes"}},
	{"BD", "/dev is that of the pod, and nothing can be mounted there", []string{"heredoc/fails", "heredoc/shebang"}},
	{"BD", "/proc shows the pod and the real user", []string{"limits/defaults", "run/sandbox-view"}},
	{"BD", "what needs a privilege of the kernel fails", []string{"security/defaults", "security/insecure"}},
	{"BD", "a mount of the pod is in the place", []string{"limits/shm-size", "mount-secret/options"}},
	{"BD", "the owner and the mode of a new cache are not kept", []string{"mount-cache/defaults", "mount-cache/id-and-mode", "mount-cache/uid-of-existing"}},
	{"BD", "all users of a step may read the files of root", []string{"mount-secret/as-user"}},
	{"BD", "the order of groups is another", []string{"metadata/user-forms", "run/user", "workdir/user"}},
	{"BD", "a mount follows the link that shows a cache in another filesystem", []string{"refuse/mount-two-on-one-target"}},
	{"D", "the times of what belongs to the real root, such as /, are not set", []string{"run/same-twice"}},
	{"D", "the same files are written as other bytes", []string{"copy/chown-from-stage-names", "copy/chown-names", "copy/chown-stage-user"}},
	{"C", "/proc and /sys are empty", []string{"limits/defaults", "network/host", "run/sandbox-view", "security/defaults"}},
	{"C", "a step is not privileged", []string{"security/insecure"}},
	{"BCD", "the hostname is that of the pod", []string{"limits/hostname", "run/hostname-argument"}},
	{"BCD", "the network is that of the pod", []string{"network/none", "network/none-flag", "run/network-none"}},
	{"C", "mounts are files on the disk", []string{"limits/shm-size"}},
	{"BCD", "mounts are files on the disk", []string{"mount-tmpfs/hides", "mount-tmpfs/size"}},
	{"BCD", "a read-only mount can be written to", []string{"mount-bind/defaults", "mount-bind/writable", "mount-cache/read-only"}},
	{"BCD", "a file with several names changes under all of them", []string{"run/hardlinks", "run/metadata", "run/metadata-only"}},
	{"BCD", "the command is not process 1, which could not kill itself", []string{"odd/killed"}},
}

// otherReason returns why a case cannot give the same at a level, "" if it must.
func otherReason(l level, name string) string {
	for _, o := range other {
		if strings.Contains(o.levels, l.name) && slices.Contains(o.cases, name) {
			return o.reason
		}
	}
	return ""
}

// podCase is a parity case that was built on the host.
type podCase struct {
	*cases.Case
	name string
	top  string // the directory with everything of the case
	want rig.Output
}

// archive is what a build of the case in a directory writes.
func (c *podCase) archive(dir string) string {
	return filepath.Join(dir, strings.ReplaceAll(c.name, "/", "-")+".tar")
}

// args are those of a build of the case whose bytes depend on nothing but the inputs, where the case and the archive have these paths.
func (c *podCase) args(top, archive string) []string {
	attrs := append([]string{"type=oci", "rewrite-timestamp=true"}, c.Attrs...)
	args := []string{"build", "--progress=plain", "-o", strings.Join(append(attrs, "dest="+archive), ",")}
	if !slices.ContainsFunc(c.Args, func(arg string) bool { return strings.HasPrefix(arg, "SOURCE_DATE_EPOCH=") }) {
		args = append(args, "--build-arg", "SOURCE_DATE_EPOCH=1700000000")
	}
	args = append(args, c.Args...)
	if c.URL != "" {
		return append(args, c.URL)
	}
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, c.top, top)
	}
	context := strings.ReplaceAll(c.Dir, c.top, top)
	return append(args, "-f", filepath.Join(context, c.Dockerfile), context)
}

// compareWith returns how a build in a pod differs from that on the host, "" if it does not.
func (c *podCase) compareWith(got rig.Output, wantDir, gotDir, gotTop string) string {
	if c.want.Code != got.Code {
		return fmt.Sprintf("exit code %d, want %d\n%s", got.Code, c.want.Code, got.Stderr)
	}
	if c.want.Code != 0 {
		if want, got := strings.ReplaceAll(lastLine(c.want.Stderr), c.top, gotTop), lastLine(got.Stderr); got != want {
			return fmt.Sprintf("%s\nwant %s", got, want)
		}
		return ""
	}
	want, archive := c.archive(wantDir), c.archive(gotDir)
	if exec.Command("cmp", "-s", want, archive).Run() == nil {
		return ""
	}
	both := make([]*compare.Index, 2)
	for i, file := range []string{want, archive} {
		index, err := compare.ReadIndex(file)
		if err != nil {
			return err.Error()
		}
		both[i] = index
	}
	diffs := compare.DiffIndexes(both[0], both[1], compare.Options{Fixed: cases.InputTime.AddDate(100, 0, 0)})
	if len(diffs) == 0 && slices.Contains(c.Args, "--attest") {
		return "" // the time of the build is attested
	}
	return fmt.Sprintf("another image: %s", strings.Join(diffs, "\n"))
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// usesGit reports whether a case needs Git, which the pods do not have.
func (c *podCase) usesGit() bool {
	isRepository := func(s string) bool { return strings.Contains(s, "/repo.git") }
	return strings.HasPrefix(c.name, "git/") || isRepository(c.URL) || slices.ContainsFunc(c.Args, isRepository)
}

// hostCases builds the parity cases on the host, but those that run no process of mica's (calls) and those that need Git, with archives in dir/want and the cases below dir/cases.
func hostCases(t *testing.T, dir string) (list []*podCase, base string) {
	t.Helper()
	pusher, registry := pushedBase(t)
	pusher.Run("tag", registry+"/base", "base")
	base = filepath.Join(dir, "base.tar")
	pusher.Run("save", "-o", base, "base")
	host := rig.NewMica(t)
	host.Run("load", "-i", base)
	servers := cases.Servers{Web: cases.NewWeb(), Registry: registry}
	t.Cleanup(servers.Web.Close)
	for _, sub := range []string{"want", "cases"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i, file := range cases.Files(t) {
		c := &podCase{name: cases.Name(file)}
		c.top = filepath.Join(dir, "cases", strings.ReplaceAll(c.name, "/", "-"))
		if err := os.Mkdir(c.top, 0o755); err != nil {
			t.Fatal(err)
		}
		if c.Case = cases.Read(t, file, c.top, i, servers); c.Call == "" && !c.usesGit() {
			list = append(list, c)
		}
	}
	t.Run("host", func(t *testing.T) {
		for _, c := range list {
			t.Run(c.name, func(t *testing.T) { // one after another: later compressions find what earlier ones have made
				cmd := host.Command(c.args(c.top, c.archive(filepath.Join(dir, "want")))...)
				cmd.Env = append(cmd.Env, c.Env...)
				if c.want = rig.Run(t, cmd); (c.want.Code != 0) != c.Fails {
					t.Fatalf("exit code %d\n%s", c.want.Code, c.want.Stderr)
				}
			})
		}
	})
	return list, base
}

// own copies a directory of the host into the pod's volume for the pod's user, who may have a range of ids.
func (p *pod) own(dir, name string) {
	p.t.Helper()
	rig.Must(p.t, "cp", "-a", dir, p.work(name))
	err := filepath.WalkDir(p.work(name), func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		uid, gid := int(p.level.uid), int(p.level.uid)
		if p.level.users {
			uid, gid = firstUID+int(st.Uid), firstUID+int(st.Gid)
		}
		if err == nil {
			err = os.Lchown(path, uid, gid)
		}
		if err == nil && d.Type() != fs.ModeSymlink {
			err = unix.Chmod(path, st.Mode&0o7777) // chown takes setuid bits
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// The cases that mica and BuildKit build to the same image on a host are built in pods of each level, to the same bytes.
func TestParity(t *testing.T) {
	dir := rig.TempDir(t)
	list, base := hostCases(t, dir)
	for _, l := range []level{levelA, levelB, levelC, levelD} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, l)
			p.own(filepath.Join(dir, "cases"), "cases")
			p.load(base)
			for _, c := range list {
				t.Run(c.name, func(t *testing.T) { p.build(t, c, filepath.Join(dir, "want")) })
			}
		})
	}
}

// build builds a case in the pod.
func (p *pod) build(t *testing.T, c *podCase, want string) {
	t.Helper()
	in := *p
	in.t, in.env = t, c.Env
	top := "/work/cases/" + filepath.Base(c.top)
	out := in.try(c.args(top, c.archive("/work"))...)
	diff, reason := c.compareWith(out, want, p.work(""), top), otherReason(p.level, c.name)
	switch {
	case diff != "" && reason == "":
		t.Error(diff)
	case diff == "" && reason != "":
		t.Errorf("the result is that of the host: strike the case from the list (%s)", reason)
	}
	_ = os.Remove(c.archive(p.work("")))
}
