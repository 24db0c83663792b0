//go:build e2e

package commands

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestSecretsLeaveNothing: after builds that use a secret in every way, no file of the store has it, nor what was printed.
func TestSecretsLeaveNothing(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	const secret = "kq7-never-to-be-seen-4711"
	dir := directory(t, map[string]string{
		"Dockerfile": "FROM base\n" +
			"RUN --mount=type=secret,id=a test -s /run/secrets/a\n" +
			"RUN --mount=type=secret,id=a,target=/etc/token,mode=0444 cp /etc/token /dev/shm/copy\n" +
			"RUN --mount=type=secret,id=a,env=TOKEN test -n \"$TOKEN\"\n" +
			"RUN --mount=type=secret,id=a --mount=type=cache,target=/c sha256sum /run/secrets/a | cut -c1-4 >/c/sum\n",
		"failing": "FROM base\nRUN --mount=type=secret,id=a,env=TOKEN exit 3\n",
	})
	file := directory(t, map[string]string{"token": secret})
	flag := "id=a,src=" + filepath.Join(file, "token")
	for _, dockerfile := range []string{"Dockerfile", "failing"} {
		out := m.Try(nil, "build", "--progress", "rawjson", "--secret", flag, "--provenance", "mode=max", "-t", "app", "-f", filepath.Join(dir, dockerfile), dir)
		if (out.Code != 0) != (dockerfile == "failing") {
			t.Fatalf("%s: exit code %d: %s", dockerfile, out.Code, out.Stderr)
		}
		if strings.Contains(out.Stdout+out.Stderr, secret) {
			t.Errorf("%s: the secret was printed", dockerfile)
		}
	}
	err := filepath.WalkDir(m.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("the secret is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCacheMountsOfConcurrentBuilds: a locked cache is had by one step at a time, of whatever process; a shared one by all;
// private ones are not shared.
func TestCacheMountsOfConcurrentBuilds(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	const builds = 6
	step := "n=$(cat /c/n 2>/dev/null || echo 0); mkdir /c/busy 2>/dev/null || touch /c/clash; usleep 50000; echo $((n+1)) >/c/n; rmdir /c/busy"
	dir := directory(t, map[string]string{
		"locked":  "FROM base\nARG N\nRUN --mount=type=cache,id=locked,target=/c,sharing=locked " + step + "\n",
		"private": "FROM base\nARG N\nRUN --mount=type=cache,id=private,target=/c,sharing=private " + step + "; test ! -e /c/clash\n",
		"look":    "FROM base\nRUN --mount=type=cache,id=locked,target=/c cat /c/n >/n; test ! -e /c/clash\n",
	})
	var wg sync.WaitGroup
	for _, file := range []string{"locked", "private"} {
		for i := range builds {
			wg.Go(func() {
				out := m.Try(nil, "build", "-q", "--build-arg", "N="+string(rune('a'+i)), "-f", filepath.Join(dir, file), dir)
				if out.Code != 0 {
					t.Errorf("%s: %s", file, out.Stderr)
				}
			})
		}
	}
	wg.Wait()
	m.Run("build", "-q", "-t", "look", "-f", filepath.Join(dir, "look"), dir)
	if got := m.Run("run", "--rm", "look", "cat", "/n"); got != "6\n" {
		t.Errorf("%d steps with a locked cache counted to %s", builds, got)
	}
}

// TestCachesInAnyOrder: steps that lock the same caches the other way round, or one twice, do not wait for ever.
func TestCachesInAnyOrder(t *testing.T) {
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	one, two := "--mount=type=cache,id=one,target=/a,sharing=locked ", "--mount=type=cache,id=two,target=/b,sharing=locked "
	dir := directory(t, map[string]string{
		"Dockerfile": "FROM base AS x\nARG N\nRUN " + one + two + "usleep 100000\nFROM base AS y\nARG N\nRUN " + two + one + "usleep 100000\n" +
			"FROM base\nRUN --mount=type=cache,id=one,target=/a,sharing=locked --mount=type=cache,id=one,target=/c,sharing=shared echo x >/a/x && cat /c/x\n" +
			"COPY --from=x /etc/passwd /1\nCOPY --from=y /etc/passwd /2\n",
	})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if out := m.Try(nil, "build", "-q", "--build-arg", "N="+string(rune('a'+i)), dir); out.Code != 0 {
				t.Error(out.Stderr)
			}
		})
	}
	wg.Wait()
}

// TestOneDigestOnTwoMachines: stores that know nothing of each other make the same image of the same inputs, whenever.
func TestOneDigestOnTwoMachines(t *testing.T) {
	base := rig.NewMica(t)
	rig.ImportBusybox(t, base, "base")
	saved := filepath.Join(rig.TempDir(t), "base.tar")
	base.Run("save", "-o", saved, "base")
	layers := strings.TrimSpace(base.Run("inspect", "-f", "{{json .RootFS.Layers}}", "base"))
	var digests []string
	for range 2 {
		m := rig.NewMica(t)
		m.Env = append(m.Env, "SOURCE_DATE_EPOCH=1600000000")
		m.Run("load", "-i", saved)
		dir := directory(t, map[string]string{
			"Dockerfile": "FROM base\nWORKDIR /w\nRUN echo x >x; mkdir d; ln x d/hard\nCOPY f ./\nADD --chmod=755 f /g\n", "f": "f\n",
		})
		dest := filepath.Join(rig.TempDir(t), "image.tar")
		m.Run("build", "-q", "-t", "app", "-o", "type=oci,rewrite-timestamp=true,dest="+dest, dir)
		m.Run("load", "-i", dest)
		digests = append(digests, m.Run("inspect", "-f", "{{.Id}} {{json .RootFS.Layers}}", "app"))
	}
	if digests[0] != digests[1] {
		t.Errorf("two machines made\n%s%s", digests[0], digests[1])
	}
	// The base image's layers are what they were.
	if !strings.Contains(digests[0], strings.TrimSuffix(layers, "]")) {
		t.Errorf("%s does not begin with the layers of the base, %s", digests[0], layers)
	}
}

// TestStepsThatCannotStart: the image has no place, or no name, for what a step asks for. The error says so once, and in
// the image's own paths.
func TestStepsThatCannotStart(t *testing.T) {
	m := newMica(t)
	for run, want := range map[string]string{
		"USER nobody-here\nRUN true":                              "unable to find user nobody-here: no matching entries in passwd file",
		"USER 1:no-group\nRUN true":                               "unable to find group no-group: no matching entries in group file",
		"RUN --mount=target=/f/x true":                            "mount target /f/x: not a directory",
		"RUN --mount=target=/f true":                              "mount target /f: not a directory",
		"RUN --mount=type=tmpfs,target=/l/x/y true":               "mount target /l/x/y: not a directory",
		"RUN --mount=source=f,target=/bin true":                   "mount target /bin: is a directory",
		"RUN --mount=source=f,target=/m --mount=target=/m/x true": "mount target /m/x: not a directory",
	} {
		dir := directory(t, map[string]string{"Dockerfile": "FROM base\nRUN touch /f && ln -s f /l\n" + run + "\n", "f": "file"})
		out := m.Try(nil, "build", "--progress", "plain", dir)
		lines := strings.Split(strings.TrimSpace(out.Stderr), "\n")
		last := lines[len(lines)-1]
		if out.Code != 1 || !strings.HasSuffix(last, ": "+want) || strings.Count(last, "unable to") > 1 || strings.Contains(out.Stderr, m.Root) {
			t.Errorf("%s: exit code %d, want %q:\n%s", run, out.Code, want, out.Stderr)
		}
	}
	// A mount makes the places that are below it.
	m.Run("build", directory(t, map[string]string{"Dockerfile": "FROM base\nRUN touch /f\nRUN --mount=type=tmpfs,target=/t --mount=target=/t/f/x ls /t/f/x/Dockerfile\n"}))
}
