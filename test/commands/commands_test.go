//go:build e2e

// Package commands tries every command and flag by hand, as a user would: what is not compared with Docker (test/docker)
// or BuildKit (test/parity). It needs root; the same things as an ordinary user are in rootless_test.go.
package commands

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// newMica is a mica with the small base image.
func newMica(t *testing.T) *rig.Mica {
	t.Helper()
	m := rig.NewMica(t)
	rig.ImportBusybox(t, m, "base")
	return m
}

// directory makes a directory of files.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := rig.TempDir(t)
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBuildContexts(t *testing.T) {
	m := newMica(t)
	const dockerfile = "FROM base\nCOPY f /f\n"
	dir := directory(t, map[string]string{"Dockerfile": dockerfile, "f": "file", "other/My.Dockerfile": "FROM base\nCOPY f /g\n"})
	tar := func(args ...string) string {
		return rig.Must(t, "tar", append([]string{"-C", dir, "-c"}, args...)...)
	}
	file := filepath.Join(rig.TempDir(t), "context.tar.gz")
	if err := os.WriteFile(file, []byte(tar("-z", ".")), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		stdin string
		args  []string
		file  string
	}{
		"directory":                {args: []string{dir}},
		"directory and file":       {args: []string{"-f", filepath.Join(dir, "other/My.Dockerfile"), dir}, file: "/g"},
		"Dockerfile on stdin":      {stdin: "FROM base\nRUN echo -n file > /f\n", args: []string{"-"}},
		"directory, file on stdin": {stdin: dockerfile, args: []string{"-f", "-", dir}},
		"tar on stdin":             {stdin: tar("."), args: []string{"-"}},
		"tar.gz on stdin":          {stdin: tar("-z", "."), args: []string{"-"}},
		"tar on stdin and file":    {stdin: tar("."), args: []string{"-f", "other/My.Dockerfile", "-"}, file: "/g"},
		"archive":                  {args: []string{file}},
		"archive without its dot":  {stdin: tar("Dockerfile", "f"), args: []string{"-"}},
	} {
		t.Run(name, func(t *testing.T) {
			id := strings.TrimSpace(m.RunIn(strings.NewReader(c.stdin), append([]string{"build", "-q"}, c.args...)...))
			if c.file == "" {
				c.file = "/f"
			}
			if got := m.Run("run", id, "cat", c.file); got != "file" {
				t.Errorf("%s holds %q", c.file, got)
			}
		})
	}
}

// TestDockerfilesElsewhere: a Dockerfile at a URL, and one of the host for a context at a URL.
func TestDockerfilesElsewhere(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": "FROM base\nCOPY f /f\n", "f": "file", "empty": "", "own/Dockerfile": "FROM base\nCOPY f /g\n"})
	if err := os.WriteFile(filepath.Join(dir, "context.tar"), []byte(rig.Must(t, "tar", "-C", dir, "-c", "f")), 0o600); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer web.Close()
	for want, args := range map[string][]string{
		"/f": {"-f", web.URL + "/Dockerfile", dir},
		"/g": {"-f", filepath.Join(dir, "own/Dockerfile"), web.URL + "/context.tar"},
	} {
		id := strings.TrimSpace(m.Run(append([]string{"build", "-q"}, args...)...))
		if got := m.Run("run", id, "cat", want); got != "file" {
			t.Errorf("%q: %s holds %q", args, want, got)
		}
	}
	bake := `{"target": {"default": {"context": "` + dir + `", "dockerfile": "` + web.URL + `/Dockerfile", "tags": ["baked"]}}}`
	if out := m.Try(strings.NewReader(bake), "bake", "-f", "-", "--allow", "fs=*"); out.Code != 0 || m.Run("run", "baked", "cat", "/f") != "file" {
		t.Errorf("bake: exit code %d: %s", out.Code, out.Stderr)
	}
	for name, says := range map[string]string{"missing": "404 Not Found", "empty": "the text is empty"} {
		if out := m.Try(nil, "build", "-f", web.URL+"/"+name, dir); out.Code != 1 || !strings.Contains(out.Stderr, "Error: read Dockerfile from "+web.URL+"/"+name+": "+says) {
			t.Errorf("%s: exit code %d: %s", name, out.Code, out.Stderr)
		}
	}
}

// TestNamesOfContexts: --build-context and FROM may call one thing by different forms of its name.
func TestNamesOfContexts(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"d/f": "file"})
	for from, names := range map[string][]string{
		"other:1":      {"other:1", "docker.io/library/other:1", "docker.io/other:1"},
		"other":        {"other", "other:latest", "docker.io/library/other"},
		"other:latest": {"other", "library/other"},
	} {
		for _, name := range names {
			out := m.Try(strings.NewReader("FROM "+from+" AS x\nFROM base\nCOPY --from=x /f /f\n"), "build", "-q", "--build-context", name+"="+dir+"/d", "-")
			if out.Code != 0 {
				t.Errorf("%s for %s: %s", name, from, out.Stderr)
			}
		}
	}
	if out := m.Try(nil, "build", "--build-context", "Other="+dir, dir); out.Code != 1 || !strings.Contains(out.Stderr, "invalid context name Other") {
		t.Errorf("exit code %d: %s", out.Code, out.Stderr)
	}
}

func TestBuildFlags(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": `FROM base AS one
ARG A=default
ARG FROMENV
RUN echo "$A $FROMENV" > /a
FROM one AS two
RUN false
`})
	out := rig.TempDir(t)
	m.Env = []string{"FROMENV=environment"}
	id := m.Run("build", "-q", "--target", "one", "--build-arg", "A=given", "--build-arg", "FROMENV", "--label", "l=v", "--label", "m", "-t", "x", "-t", "y:2",
		"--iidfile", out+"/iid", "--metadata-file", out+"/meta", "--add-host", "h:1.2.3.4", "--network", "none", dir)
	if data, err := os.ReadFile(out + "/iid"); err != nil || string(data) != strings.TrimSpace(id) {
		t.Errorf("iidfile holds %q, want %q", data, id)
	}
	var meta map[string]any
	data, err := os.ReadFile(out + "/meta")
	if err == nil {
		err = json.Unmarshal(data, &meta)
	}
	if err != nil || meta["image.name"] != "docker.io/library/x:latest,docker.io/library/y:2" || meta["containerimage.config.digest"] != strings.TrimSpace(id) {
		t.Errorf("metadata is %v %v", meta, err)
	}
	if got := m.Run("run", "x", "cat", "/a"); got != "given environment\n" {
		t.Errorf("arguments are %q", got)
	}
	if got := m.Run("inspect", "-f", "{{json .Config.Labels}}", "y:2"); got != `{"l":"v","m":""}`+"\n" {
		t.Errorf("labels are %s", got)
	}
	for _, mode := range []string{"plain", "auto", "rawjson", "quiet"} {
		o := m.Try(nil, "build", "--progress", mode, "--target", "one", dir)
		if o.Code != 0 {
			t.Errorf("progress %s: %s", mode, o.Stderr)
		}
		if mode != "quiet" && o.Stdout != "" {
			t.Errorf("progress %s writes to stdout: %q", mode, o.Stdout)
		}
	}
	// Without a change everything is cached; with --no-cache nothing is.
	again := m.Try(nil, "build", "--target", "one", dir).Stderr
	none := m.Try(nil, "build", "--no-cache", "--target", "one", dir).Stderr
	if !strings.Contains(again, " CACHED") || strings.Contains(none, " CACHED") {
		t.Errorf("cached:\n%s\nnot cached:\n%s", again, none)
	}
}

// TestBuildOlderFlags: what people have typed for years still builds, and is not in the help.
func TestBuildOlderFlags(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": "FROM base\nRUN true\n"})
	for flags, says := range map[string]string{
		"--rm --force-rm --compress":            "",
		"-m 64m --memory-swap -1 -c 512":        "",
		"--cpu-period 100000 --cpu-quota 50000": "",
		"--cpuset-cpus 0 --cpuset-mems 0":       "",
		"--squash":                              "WARNING: --squash is not used, for one layer copy from a stage",
		"--security-opt seccomp=unconfined":     `WARNING: --security-opt is not used, "RUN --security=insecure" is`,
		"--isolation default":                   "",
		"--print targets":                       "",
		"--add-host a:host-gateway,b=10.1.1.1":  "",
		"--platform local":                      "",
	} {
		out := m.Try(nil, append(append([]string{"build", "-q"}, strings.Fields(flags)...), dir)...)
		if out.Code != 0 || out.Stdout == "" || !strings.Contains(out.Stderr, says) || says == "" && out.Stderr != "" {
			t.Errorf("%s: exit code %d, %q, %q", flags, out.Code, out.Stdout, out.Stderr)
		}
	}
	for flags, says := range map[string]string{
		"--memory much":         `invalid resource "memory=much"`,
		"--add-host a:nowhere":  `invalid host a:nowhere: "nowhere" is not an IP address`,
		"--platform linux,,arm": `invalid platform ""`,
	} {
		out := m.Try(nil, append(append([]string{"build", "-q"}, strings.Fields(flags)...), dir)...)
		if out.Code != 1 || !strings.Contains(out.Stderr, says) {
			t.Errorf("%s: exit code %d, %q", flags, out.Code, out.Stderr)
		}
	}
	if help := m.Run("build", "--help"); strings.Contains(help, "--squash") || strings.Contains(help, "--memory-swap") {
		t.Error("the help shows flags of earlier builders")
	}
}

func TestBuildFailureShowsTheStep(t *testing.T) {
	m := newMica(t)
	out := m.Try(nil, "build", "--progress", "plain", directory(t, map[string]string{"Dockerfile": "FROM base\n\nRUN echo out; echo err >&2; exit 5\n"}))
	for _, want := range []string{
		"------\n > [2/2] RUN echo out; echo err >&2; exit 5:\n", " out\n", " err\n", "------\nDockerfile:3\n--------------------\n", "   3 | >>> RUN echo out; echo err >&2; exit 5\n",
		`process "/bin/sh -c echo out; echo err >&2; exit 5" did not complete successfully: exit code: 5`,
	} {
		if !strings.Contains(out.Stderr, want) {
			t.Errorf("%q is missing in\n%s", want, out.Stderr)
		}
	}
	if out.Code != 1 || out.Stdout != "" {
		t.Errorf("exit code %d, stdout %q", out.Code, out.Stdout)
	}
}

func TestBuildOutputs(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY f /d/f\nCOPY --from=base /bin/sh /bin/busybox /bin/\n", "f": "file"})
	out := rig.TempDir(t)
	before := m.Run("images", "-aq")
	for _, o := range []string{
		"type=local,dest=" + out + "/local", "type=tar,dest=" + out + "/x.tar", "type=oci,dest=" + out + "/oci.tar", "type=docker,dest=" + out + "/docker.tar", out + "/short", "type=cacheonly",
	} {
		m.Run("build", "-q", "-o", o, dir)
	}
	if after := m.Run("images", "-aq"); after != before {
		t.Errorf("images are %s", after)
	}
	for _, d := range []string{"local", "short"} {
		if got := rig.Must(t, "cat", filepath.Join(out, d, "d/f")); got != "file" {
			t.Errorf("%s holds %q", d, got)
		}
	}
	if got := rig.Must(t, "tar", "-tf", out+"/x.tar"); !strings.Contains(got, "d/f\n") {
		t.Errorf("tar holds %s", got)
	}
	if got := m.Run("build", "-q", "-o", "-", dir); !strings.Contains(got, "ustar") {
		t.Error("-o - is no tar")
	}
	for _, a := range []string{"oci.tar", "docker.tar"} {
		if got := m.Run("load", "-i", filepath.Join(out, a)); !strings.HasPrefix(got, "Loaded image ID: sha256:") {
			t.Errorf("load of %s: %s", a, got)
		}
	}
	m.Run("build", "-q", "-o", "type=image,name=named:1", dir)
	if got := m.Run("images", "-q", "named:1"); got == "" {
		t.Error("type=image,name= made no image")
	}
	// With estargz the layers are others, and the image is run as ever.
	m.Run("build", "-q", "-o", "type=image,name=named:2,compression=estargz,force-compression=true", dir)
	layers := "{{json .RootFS.Layers}}"
	if one, two := m.Run("inspect", "-f", layers, "named:1"), m.Run("inspect", "-f", layers, "named:2"); one == two || strings.Count(one, ":") != strings.Count(two, ":") {
		t.Errorf("the layers %s are %s as estargz", one, two)
	}
	if got := m.Run("run", "--rm", "named:2", "sh", "-c", "cat /d/f; echo /*"); got != "file/bin /d /dev /etc /proc /sys\n" {
		t.Errorf("the image of estargz has %q", got)
	}
	for o, want := range map[string]string{
		"compression=estargz,oci-mediatypes=false": "conflicts with oci-mediatypes=false",
		"compression=estargz,compression-level=12": "estargz has 1 to 9", "compression=lz4": "use gzip, zstd, estargz or uncompressed (none)",
	} {
		if out := m.Try(nil, "build", "-o", "type=oci,dest="+out+"/no.tar,"+o, dir); out.Code == 0 || !strings.Contains(out.Stderr, want) {
			t.Errorf("%s: exit code %d: %s", o, out.Code, out.Stderr)
		}
	}
}

// TestBuildDirectories: the attributes of files that are put out.
func TestBuildDirectories(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": "FROM scratch AS one\nCOPY f /d/f\nFROM one\nARG TARGETARCH\nCOPY f /$TARGETARCH\n", "f": "file"})
	work := rig.TempDir(t)
	build := func(args ...string) rig.Output {
		cmd := m.Command(append(append([]string{"build", "-q"}, args...), dir)...)
		cmd.Dir = work
		return rig.Run(t, cmd)
	}
	list := func(name string) string {
		return strings.Join(strings.Fields(rig.Must(t, "sh", "-c", "cd "+filepath.Join(work, name)+" && find . -type f | LC_ALL=C sort")), " ")
	}
	both := []string{"--platform", "linux/amd64,linux/386", "--build-arg", "SOURCE_DATE_EPOCH=1500000000"}
	for _, c := range []struct {
		args []string
		want string
		says string
	}{
		{args: append(both, "-o", "type=local,dest=out"), want: "./linux_386/386 ./linux_386/d/f ./linux_amd64/amd64 ./linux_amd64/d/f"},
		{args: []string{"--target", "one", "-o", "type=local,dest=out"}, want: "./d/f ./linux_386/386 ./linux_386/d/f ./linux_amd64/amd64 ./linux_amd64/d/f"},
		{args: []string{"--target", "one", "-o", "type=local,dest=out,mode=delete"}, want: "./d/f"},
		{args: append(both, "-o", "type=local,dest=out,platform-split=false"), says: "cannot overwrite d/f from linux/amd64 with linux/386 when split option is disabled"},
		{args: []string{"--target", "one", "-o", "type=local,dest=.,mode=delete"}, says: "pass --allow buildx.local.delete to permit it"},
		{args: []string{"--target", "one", "-o", "type=local,dest=" + dir + "/../out,mode=delete"}, says: "pass --allow buildx.local.delete to permit it"},
		{args: []string{"-o", "type=local,dest=out,mode=move"}, says: `output attribute mode: "move" is neither copy nor delete`},
		{args: []string{"-o", "", "-o", "type=tar,dest=out.tar,mode=delete,push=false,name=x"}},
	} {
		out := build(c.args...)
		if (out.Code != 0) != (c.says != "") || !strings.Contains(out.Stderr, c.says) {
			t.Fatalf("%q: exit code %d: %s", c.args, out.Code, out.Stderr)
		}
		if got := list("out"); c.want != "" && got != c.want {
			t.Errorf("%q puts out %s, want %s", c.args, got, c.want)
		}
	}
	if out := build(append(both, "-o", "type=local,dest=dated", "-o", "type=tar,dest=dated.tar,source-date-epoch=1400000000")...); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if got := rig.Must(t, "find", filepath.Join(work, "dated"), "-mindepth", "1", "-not", "-newermt", "@1500000000", "-newermt", "@1499999999"); strings.Count(got, "\n") != 8 {
		t.Errorf("of the time that was given are %s", got)
	}
	if got := rig.Must(t, "tar", "--utc", "-tvf", filepath.Join(work, "dated.tar")); strings.Count(got, "2014-05-13 16:53") != 8 {
		t.Errorf("the tar has %s", got)
	}
}

func TestRun(t *testing.T) {
	m := newMica(t)
	m.Run("build", "-q", "-t", "app", directory(t, map[string]string{"Dockerfile": `FROM base
ENV A=image B=kept
WORKDIR /work
RUN mkdir /data && echo seed > /data/seed && chown -R dev /data
VOLUME /data
USER dev
ENTRYPOINT ["sh", "-c"]
CMD ["echo $A $B; pwd; id -un"]
`}))
	host := directory(t, map[string]string{"f": "from the host", "env": "A=file\n# comment\nC=three\n"})
	if err := os.Chmod(host, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"app"}, "image kept\n/work\ndev\n"},
		{[]string{"app", "echo other"}, "other\n"},
		{[]string{"-e", "A=flag", "app"}, "flag kept\n/work\ndev\n"},
		{[]string{"--env-file", host + "/env", "app", "echo $A $C"}, "file three\n"},
		{[]string{"-w", "/tmp", "-u", "0", "app"}, "image kept\n/tmp\nroot\n"},
		{[]string{"-u", "33:50", "app", "id -u; id -g"}, "33\n50\n"},
		{[]string{"--entrypoint", "echo", "app", "a", "b"}, "a b\n"},
		{[]string{"--entrypoint", "", "app", "pwd"}, "/work\n"},
		{[]string{"-v", host + ":/h", "app", "cat /h/f; echo new > /h/new"}, "from the host"},
		{[]string{"-v", host + ":/h:ro", "app", "echo x > /h/no 2>/dev/null || echo refused"}, "refused\n"},
		{[]string{"app", "cat /data/seed; touch /data/mine && echo mine"}, "seed\nmine\n"},
		{[]string{"-u", "0", "--read-only", "app", "touch /x 2>/dev/null || echo refused"}, "refused\n"},
		{[]string{"-u", "0", "--read-only", "--tmpfs", "/t:size=1m", "app", "touch /t/x && df -m /t | tail -n 1 | awk '{print $2}'"}, "1\n"},
		{[]string{"--network", "none", "app", "ls /sys/class/net"}, "lo\n"},
		{[]string{"--hostname", "named", "app", "hostname"}, "named\n"},
		{[]string{"--name", "called", "app", "hostname"}, "called\n"},
		{[]string{"-u", "0", "--cap-drop", "ALL", "app", "grep CapEff /proc/self/status"}, "CapEff:\t0000000000000000\n"},
		{[]string{"-u", "0", "--cap-drop", "ALL", "--cap-add", "NET_RAW", "app", "grep CapEff /proc/self/status"}, "CapEff:\t0000000000002000\n"},
		{[]string{"-u", "0", "app", "grep CapEff /proc/self/status"}, "CapEff:\t00000000a80425fb\n"},
		{[]string{"--add-host", "h.test:10.9.8.7", "app", "grep h.test /etc/hosts | awk '{print $1}'"}, "10.9.8.7\n"},
		{[]string{"app", "cat /etc/hosts | head -n 1 | awk '{print $2}'"}, "localhost\n"},
		{[]string{"--rm", "app", "echo ok"}, "ok\n"},
	} {
		if got := m.Run(append([]string{"run"}, c.args...)...); got != c.want {
			t.Errorf("run %q: %q, want %q", c.args, got, c.want)
		}
	}
	if got := m.RunIn(strings.NewReader("typed"), "run", "-i", "app", "cat"); got != "typed" {
		t.Errorf("stdin is %q", got)
	}
	if got := m.RunIn(strings.NewReader("typed"), "run", "app", "cat"); got != "" {
		t.Errorf("without -i, stdin is %q", got)
	}
	for _, code := range []string{"0", "1", "42", "255"} {
		if out := m.Try(nil, "run", "app", "exit "+code); out.Code != atoi(code) || out.Stderr != "" {
			t.Errorf("exit %s: %d %q", code, out.Code, out.Stderr)
		}
	}
	if out := m.Try(nil, "run", "app", "sh -c 'kill -9 $$'; exit $?"); out.Code != 137 {
		t.Errorf("kill -9: exit code %d", out.Code)
	}
}

func atoi(s string) int {
	n := 0
	for _, c := range s {
		n = 10*n + int(c-'0')
	}
	return n
}

func TestImportChangesAndExport(t *testing.T) {
	m := newMica(t)
	flat := filepath.Join(rig.TempDir(t), "flat.tar")
	m.Run("export", "-o", flat, "base")
	m.Run("import", "-m", "a message", "-c", "ENV A=b", "-c", "WORKDIR /opt", "-c", `CMD ["pwd"]`, "--change", "LABEL x=y", "-c", "EXPOSE 80", flat, "flat:1")
	if got := m.Run("run", "flat:1"); got != "/opt\n" {
		t.Errorf("runs to %q", got)
	}
	if got := m.Run("history", "--format", "{{.Comment}}", "flat:1"); got != "a message\n" {
		t.Errorf("history is %q", got)
	}
	again := filepath.Join(rig.TempDir(t), "again.tar")
	m.Run("export", "-o", again, "flat:1")
	if rig.Must(t, "sha256sum", flat)[:64] != rig.Must(t, "sha256sum", again)[:64] {
		t.Error("export of an import of an export is another file")
	}
}

func TestPrune(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": "FROM base\nRUN head -c 3000000 /dev/zero > /z\n"})
	m.Run("build", "-q", "-t", "app", dir)
	m.Run("rmi", "app")
	df := m.Run("system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Size}}")
	if !regexp.MustCompile(`(?m)^Build Cache 1 3(\.\d+)?MB$`).MatchString(df) {
		t.Errorf("system df: %s", df)
	}
	if out := m.Run("builder", "prune", "-af"); !regexp.MustCompile(`(?m)^Total(:|\sreclaimed space:)\s+3(\.\d+)?MB$`).MatchString(out) {
		t.Errorf("builder prune: %s", out)
	}
	if left := m.Run("system", "df", "--format", "{{.Type}} {{.TotalCount}}"); !strings.Contains(left, "Build Cache 0\n") {
		t.Errorf("left: %s", left)
	}
	if m.Run("image", "prune", "-af"); m.Run("images", "-aq") != "" {
		t.Error("image prune -a leaves images")
	}
	for _, dir := range []string{"layers", "blobs/sha256", "tmp", "cache/records"} {
		if left, err := os.ReadDir(filepath.Join(m.Root, dir)); err == nil && len(left) > 0 {
			t.Errorf("%s holds %d files", dir, len(left))
		}
	}
}
