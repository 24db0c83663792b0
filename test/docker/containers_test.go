//go:build e2e

package docker

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// moments are what two engines cannot have in common: IDs, times, and the temporary directories of clients.
var moments = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "ID64"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "ID12"},
	{regexp.MustCompile(`(?:Less than a second|About a minute|\d+ seconds?) ago`), "AGO"},
	{regexp.MustCompile(`Up (?:Less than a second|About a minute|\d+ seconds?)`), "Up AGO"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| [+-]\d{4} \w+)`), "TIME"},
	{regexp.MustCompile(`  +`), "  "},
}

func momentless(s string) string {
	for _, m := range moments {
		s = m.re.ReplaceAllString(s, m.by)
	}
	return s
}

// talk is one command, with what it reads.
type talk struct {
	stdin string
	args  []string
}

// hears runs commands with the engine and with mica, and compares what they print, with IDs and times left out, and their exit codes.
func (s *runner) hears(talks ...talk) {
	s.t.Helper()
	for _, k := range talks {
		run := func(d *rig.Docker) rig.Output {
			args := slices.Clone(k.args)
			for i := range args { // each has a directory for what it copies
				args[i] = strings.ReplaceAll(args[i], "OUT", s.out[d])
			}
			cmd := d.Command(args...)
			cmd.Stdin = bytes.NewBufferString(k.stdin)
			return rig.Run(s.t, cmd)
		}
		want, got := run(engine), run(s.docker)
		if w, g := momentless(want.Stdout), momentless(got.Stdout); want.Code != got.Code || w != g || !alike(reason(want.Stderr), reason(got.Stderr)) {
			s.t.Errorf("%q:\n%d %s%s\nwant:\n%d %s%s", k.args, got.Code, g, reason(got.Stderr), want.Code, w, reason(want.Stderr))
		}
	}
}

// noise is what docker says, now and then, of a container that was never started, and of an archive that the engine refuses.
var noise = regexp.MustCompile(`(?m)^.*error waiting for container: context canceled"?\n|^time=.*level=error msg=.*(?:io: read/write on closed pipe|Can't close tar writer.*)"\n`)

// reason is an error without the words of the engine's own parts.
func reason(stderr string) string {
	s := noise.ReplaceAllString(momentless(stderr), "")
	if s, path, ok := strings.Cut(s, "failed to create shim task"); ok {
		_, cause, _ := strings.Cut(path, "container process: ")
		s = strings.Replace(s, "failed to create task for container: ", "", 1)
		return s + strings.Replace(strings.TrimPrefix(cause, "error during container init: "), ": unknown", "", 1)
	}
	s = strings.TrimPrefix(s, "OCI runtime exec failed: exec failed: unable to start container process: ")
	return strings.Replace(strings.Replace(s, "failed to start the container: ", "", 1), "failed to start the process: ", "", 1)
}

// reworded are the words of Docker 29, and of mica, for those of 20.10, in lower case.
var reworded = []struct{ old, now string }{
	{"no such container nosuch", "no such container: nosuch"},
	{`strconv.atoi: parsing "x"`, `invalid filter 'exited=x': strconv.atoi: parsing "x"`},
	{"you cannot remove a running container id64. stop", `cannot remove container "web": container is running: stop`},
	{"in container id64", "in container web"},
	{"invalid filter 'status=nosuch'", "invalid filter 'status=nosuch': invalid value for state (nosuch): must be one of created, running, paused, restarting, removing, exited, dead"},
	{"invalid signal: nosuch", "cannot kill container: front: invalid signal: nosuch"},
	{"attempting removal or force", "removing or force"},
	{`"/etc": permission denied`, `"/etc": is a directory: permission denied`},
	{"stat /nosuch: no such file", "no such file"},
}

// alike compares errors: with 20.10 in the words of 29.
func alike(want, got string) bool {
	if current != "" {
		return strings.Replace(want, "stat /nosuch: no such file", "no such file", 1) == got
	}
	want, got = strings.ToLower(want), strings.ToLower(got)
	for _, n := range reworded {
		want = strings.ReplaceAll(want, n.old, n.now)
	}
	return want == got
}

// words are commands, with ~ for a space in an argument.
func words(lines ...string) (list []talk) {
	for _, l := range lines {
		args := strings.Fields(l)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "~", " ")
		}
		list = append(list, talk{args: args})
	}
	return list
}

// runner is a socket for containers.
type runner struct {
	*socket
	out map[*rig.Docker]string
}

// newRunner serves an image with a shell from both.
func newRunner(t *testing.T) *runner {
	s := &runner{newSocket(newPair(t)), map[*rig.Docker]string{}}
	if left := strings.Fields(engine.Run(t, "ps", "-aq")); len(left) > 0 {
		engine.Run(t, append([]string{"rm", "-fv"}, left...)...)
	}
	tar, err := rig.BusyboxTar(rig.TempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*rig.Docker{engine, s.docker} {
		s.out[d] = rig.TempDir(t)
		d.Run(t, "import", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "-c", `CMD ["sh"]`, "-c", "LABEL tier=base", tar, "run-base")
	}
	return s
}

// TestServeRunEqualsDockers: docker run says the same of mica serve as of its own engine.
func TestServeRunEqualsDockers(t *testing.T) {
	s := newRunner(t)
	dir := rig.TempDir(t)
	for name, text := range map[string]string{
		"f": "from the host\n", "profile": `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sh := func(flags, script string) talk {
		return talk{args: append(append([]string{"run", "--rm", "--network", "none"}, strings.Fields(flags)...), "run-base", "sh", "-c", script)}
	}
	s.hears(
		sh("", "echo out; echo err >&2; exit 3"),
		sh("", "kill -9 $$"),
		talk{args: strings.Fields("run --rm --network none run-base nosuch")},
		talk{args: strings.Fields("run --rm --network none run-base /etc")},
		talk{args: strings.Fields("run --rm --network none --entrypoint /nosuch run-base x")},
		talk{args: strings.Fields("run --rm --network none --pull never nosuchimage")},
		talk{args: strings.Fields("run --rm --network none --nosuchflag run-base")},
		talk{"one\ntwo\n", strings.Fields("run --rm --network none -i run-base cat")},
		talk{"lost", strings.Fields("run --rm --network none run-base cat")},
		talk{"echo from stdin", strings.Fields("run --rm --network none -i run-base")},
		talk{"x", strings.Fields("run --rm --network none -it run-base true")},
		sh("-e A=1 -e B= -e C", "env | grep '^[ABC]='"),
		sh("-w /made/here", "pwd"),
		sh("-w relative", "pwd"),
		sh("-u 12:34", "id -u; id -g"),
		sh("-u nosuch", "id"),
		sh("-u nosuch:nogroup", "id"),
		sh("-h box", "hostname"),
		sh("-t", "tty; stty size | wc -w; echo err >&2"),
		talk{args: strings.Fields("run --rm --network none --entrypoint echo run-base a b")},
		talk{args: []string{"run", "--rm", "--network", "none", "--entrypoint", "", "run-base", "echo", "x"}},
		sh("-v "+dir+":/d", "cat /d/f; echo more >/d/g; grep -c ' /d ' /proc/mounts"),
		sh("-v "+dir+":/d:ro", "echo more >/d/g"),
		sh("-v /anon", "grep -c ' /anon ' /proc/mounts"),
		sh("-v named:/n", "echo kept >/n/f"),
		sh("-v named:/n:ro", "cat /n/f; touch /n/g"),
		sh("-v na/med:/n", "true"),
		sh("--tmpfs /t:size=1m,mode=700", "stat -c %a /t; df -k /t | tail -n1"),
		sh("--mount type=volume,src=named,dst=/m", "cat /m/f"),
		sh("--mount type=bind,src=/nosuch,dst=/m", "true"),
		sh("--read-only", "touch /x"),
		sh("--read-only --tmpfs /tmp", "touch /tmp/x"),
		sh("--cap-drop ALL", "chown 1:1 /bin"),
		sh("--security-opt seccomp="+dir+"/profile", "mkdir /x"),
		sh("--security-opt seccomp=/nosuch", "true"),
		sh("--security-opt systempaths=unconfined", "grep -c ' /proc/' /proc/mounts"),
		sh("-m 1k", "true"),
		sh("--cpus 1000", "true"),
		sh("--network nosuch", "true"),
		sh("--name -bad", "true"),
		sh("--stop-signal X", "true"),
		sh("--restart nosuch", "true"),
		sh("--ulimit nofile=100:200", "ulimit -n; ulimit -Hn"),
		sh("--init", "cat /proc/1/comm"),
		sh("--init", "exit 7"),
		sh("-d", "true"),
	)
	if current != "" { // 20.10 refuses it
		s.hears(sh("--mount type=volume,dst=/m,readonly", "touch /m/f"))
	}
	s.hears(words("volume ls -q", "volume inspect -f {{.Driver}}.{{.Scope}}.{{.Labels}}.{{.Options}} named", "volume rm named nosuch", "ps -a")...)
}

// TestServeContainersEqualDockers: the commands for containers that stay.
func TestServeContainersEqualDockers(t *testing.T) {
	s := newRunner(t)
	dir := rig.TempDir(t)
	s.hears(words("create --network none --name web -l role=front -e A=1 -v data:/data -v /anon --cgroupns private --stop-timeout 1 run-base sleep 1000",
		"create --network none --name web run-base", "ps -a --format {{.Names}}|{{.State}}|{{.Status}}|{{.Command}}|{{.Image}}|{{.Networks}}|{{.Ports}}|{{.LocalVolumes}}|{{.Label~\"role\"}}",
		"ps", "ps -a", "start web", "start web", "start nosuch", "ps", "ps -q", "ps -a --no-trunc", "ps -s --format {{.Names}}", "stop -t 1 web", "ps -a", "restart -t 0 web",
		"ps --filter name=we", "ps --filter name=^/web$", "ps --filter label=role", "ps --filter label=role=back", "ps --filter status=running", "ps --filter status=nosuch",
		"ps -a --filter exited=137", "ps -a --filter exited=x", "ps --filter ancestor=run-base", "ps --filter ancestor=nosuch", "ps --filter volume=data", "ps --filter volume=/data",
		"ps --filter network=none", "ps --filter network=bridge", "ps --filter publish=80", "ps --filter expose=80/tcp", "ps --filter before=web", "ps --filter since=web", "ps --filter since=nosuch",
		"ps --filter health=none", "ps --filter is-task=false", "ps --filter nosuch=x", "ps -n 1", "ps -l",
		"top web -o pid=x,comm", "top web -eo comm", "top web -eo uid=PID", "top nosuch", "port web", "port web 80", "exec web sh -c exit~5", "exec nosuch true",
		"exec -w /data web pwd", "exec -u 5:6 web id -u", "exec -d web touch /flag", "exec -t web tty",
		"rename web", "rename web front", "rename front front", "rename nosuch x", "rename front -bad", "kill -s NOSUCH front", "rm nosuch", "rm -f nosuch",
		"attach nosuch", "wait nosuch", "logs nosuch", "stop nosuch", "kill front", "kill front", "wait front", "attach front", "exec front true", "top front", "stop front", "rename front web",
		"volume inspect -f {{.Name}} data nosuch", "volume create data", "volume create --label a=b --label c other", "volume create -d nosuch x", "volume create a/b",
		"volume ls -f label=a=b", "volume ls -f name=oth", "volume ls -f dangling=true -q", "volume ls -f nosuch=x", "volume ls -f driver=local -f name=data",
		"volume ls --format {{.Name}}|{{.Driver}}|{{.Scope}}|{{.Links}}|{{.Size}} -f name=other", "volume inspect -f {{json~.Labels}} other",
	)...)
	if current != "imagestore" { // whose driver is containerd's
		s.hears(words("inspect -f {{.Driver}} web")...)
	}
	for _, format := range []string{
		"{{.Path}} {{.Args}} {{.Name}} {{.Platform}} {{.RestartCount}} {{.AppArmorProfile}} {{.MountLabel}}",
		"{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.ExitCode}} {{.State.Error}} {{.State.OOMKilled}} {{.State.Pid}}",
		"{{json .Config}}", "{{.HostConfig.NetworkMode}} {{json .HostConfig.Binds}} {{json .HostConfig.RestartPolicy}} {{json .HostConfig.LogConfig}}",
		"{{.HostConfig.IpcMode}} {{.HostConfig.ShmSize}} {{json .HostConfig.PortBindings}} {{.HostConfig.Runtime}}",
		"{{json .HostConfig.ReadonlyPaths}} {{json .HostConfig.Devices}} {{.HostConfig.ConsoleSize}}",
		`{{range .Mounts}}{{if eq .Destination "/data"}}{{.Type}} {{.Driver}} {{.Mode}} {{.RW}}{{end}}{{end}}`, // in any order
		`{{range .Mounts}}{{if ne .Destination "/data"}}{{.Type}} {{.Destination}} {{.Driver}} {{.Mode}} {{.RW}}{{end}}{{end}}`, "{{json .NetworkSettings.Ports}} {{json .ExecIDs}}",
		"{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAddress}} {{$v.Gateway}}{{end}}", "{{.Nope}}",
	} {
		s.hears(talk{args: []string{"inspect", "-f", format, "web"}}, talk{args: []string{"inspect", "--type", "container", "-f", format, "web"}})
	}
	s.hears(
		talk{args: []string{"run", "-d", "--network", "none", "--name", "talker", "run-base", "sh", "-c", "for i in 1 2 3; do echo line $i; echo err $i >&2; sleep 0.02; done"}},
		talk{args: []string{"wait", "talker"}}, talk{args: []string{"logs", "talker"}}, talk{args: []string{"logs", "--tail", "6", "talker"}}, talk{args: []string{"logs", "-n", "0", "talker"}},
		talk{args: []string{"logs", "-f", "talker"}}, talk{args: []string{"logs", "-t", "talker"}}, talk{args: []string{"logs", "--since", "1h", "talker"}}, talk{args: []string{"logs", "--until", "1h", "talker"}},
		talk{args: []string{"logs", "--tail", "x", "talker"}}, talk{args: []string{"logs", "--since", "x", "talker"}}, talk{args: []string{"logs", "--details", "talker"}},
		talk{args: []string{"start", "-a", "talker"}},
	)
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a": "A\n", "sub/b": "B\n"} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("sub/b", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	s.hears(words("start web", "cp "+tree+" web:/copied", "exec web find /copied", "exec web cat /copied/link", "cp "+tree+"/. web:/copied/again", "cp "+tree+"/a web:/copied/new", "cp "+tree+"/a web:/nosuch/dir/",
		"cp "+tree+" web:/copied/new", "cp web:/nosuch -", "cp web:/copied/a OUT/x-a", "cp web:/copied OUT/x", "cp -L web:/copied/link OUT/x-l", "cp web:/copied/link OUT/x-link", "cp web:/copied web:/x", "cp nosuch:/x -",
		"cp "+tree+"/nosuch web:/", "cp "+tree+"/a web:/data/inside", "exec web cat /data/inside", "exec web stat -c %a.%u.%n /copied/a /copied/sub/b /copied/new",
		"exec web ln -s /etc /outside", "cp "+tree+"/a web:/outside/planted", "exec web cat /etc/planted", "cp web:/outside/planted OUT/x-p",
		"commit -a me -m why web made:1", "commit web BAD", "commit nosuch x", "image inspect -f {{.Author}}.{{.Comment}}.{{.Config.Cmd}}.{{.Config.Labels}}.{{.Config.Env}} made:1",
		"commit -c ENV~A=9 -c EXPOSE~80 web made:2", "run --rm --network none made:1 cat /copied/a", "history --format {{.CreatedBy}}|{{.Comment}} made:1",
		"volume rm data", "volume rm -f data", "diff nosuch", "stats --no-stream nosuch",
		"run --name changed --network none -v data:/bin/data --tmpfs /tmp run-base sh -c touch~/bin/data/y~/tmp/z~/new", "port changed", "port changed 80", "stats --no-stream --format {{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.PIDs}} changed", "rm -v changed",
		"rm web", "rm -fv web talker", "container prune -f", "create --network none --name a run-base", "create --network none --name b -l x=y run-base",
		"container prune -f --filter label=x", "ps -a", "rm a a", "volume rm other data", "volume prune -f", "volume ls", "network ls --format {{.Name}}|{{.Driver}}|{{.Scope}}|{{.Internal}}|{{.IPv6}}|{{.Labels}} -f name=none",
		"network ls -f driver=null", "network inspect -f {{.Name}}|{{.Driver}}|{{.Scope}}|{{.Options}}|{{.Labels}}|{{.Internal}}|{{.Containers}} none host", "network inspect nosuch", "network rm none", "network rm nosuch",
		"network ls -f nosuch=x", "network create none", "network prune -f", "system df --format {{.Type}}|{{.TotalCount}}|{{.Active}}", "events --until 1s --since 1s --filter nosuch=x",
	)...)
}
