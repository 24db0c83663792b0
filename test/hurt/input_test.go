//go:build e2e

package hurt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBadDockerfiles(t *testing.T) {
	p := newPatient(t)
	for _, c := range []struct{ name, dockerfile, want string }{
		{"empty", "", `^ERROR: .*empty`},
		{"only comments", "# nothing\n", `^ERROR: .*file with no instructions`},
		{"no FROM", "RUN true\n", `^ERROR: .*Dockerfile:1.*no build stage`},
		{"unknown instruction", "FROM base\nFLY away\n", `^ERROR: .*Dockerfile:2.*unknown instruction: FLY`},
		{"unknown flag", "FROM base\nCOPY --wings f /\n", `^ERROR: .*Dockerfile:2.*unknown flag: --wings`},
		{"unknown stage", "FROM base\nCOPY --from=nobody /f /\n", `^ERROR: .*Dockerfile:2.*nobody.*(not found|cannot be reached|denied)`},
		{"unknown image", "FROM nothing-like-it:7\n", `^ERROR: .*Dockerfile:1.*docker.io/library/nothing-like-it:7: .*(not found|cannot be reached|denied)`},
		{"invalid image name", "FROM Bad Name\n", `^ERROR: .*Dockerfile:1.*FROM requires`},
		{"upper-case image name", "FROM base/UPPER:1\n", `^ERROR: .*Dockerfile:1.*must be lowercase`},
		{"unterminated heredoc", "FROM base\nRUN <<EOT\necho\n", `^ERROR: .*Dockerfile:2.*unterminated heredoc`},
		{"missing file", "FROM base\n\nCOPY missing /\n", `^ERROR: .*Dockerfile:3.*"/missing".*not found`},
		{"file outside", "FROM base\nCOPY ../../etc/shadow /x\n", `^ERROR: .*Dockerfile:2.*"/etc/shadow".*not found`},
		{"circular stages", "FROM b AS a\nFROM a AS b\n", `^ERROR: .*(not found|circular|cannot be reached|denied)`},
		{"bad mode", "FROM base\nCOPY --chmod=99 f /\n", `^ERROR: .*Dockerfile:2.*invalid chmod`},
		{"bad variable", "FROM base\nENV A=${B?needed}\n", `^ERROR: .*Dockerfile:2.*needed`},
		{"failing command", "FROM base\nRUN echo out; exit 9\n", `^ERROR: .*Dockerfile:2.*exit code: 9`},
		{"missing program", "FROM base\nRUN [\"/nope\"]\n", `^ERROR: .*Dockerfile:2.*/nope.*no such file`},
		{"missing user", "FROM base\nUSER ghost\nRUN true\n", `^ERROR: .*Dockerfile:3.*unable to find user ghost`},
		{"copy through a file", "FROM base\nCOPY f /etc/passwd/x\n", `^ERROR: .*Dockerfile:2`},
		{"missing secret", "FROM base\nRUN --mount=type=secret,id=x,required=true true\n", `^ERROR: .*Dockerfile:2.*secret x: not found: give it with --secret id=x`},
		{"missing agent", "FROM base\nRUN --mount=type=ssh,required=true true\n", `^ERROR: .*Dockerfile:2.*no SSH key "default"`},
		{"privileged step", "FROM base\nRUN --security=insecure true\n", `^ERROR: .*Dockerfile:2.*security.insecure is not allowed`},
		{"http source", "FROM base\nADD https://127.0.0.1:1/x /x\n", `^ERROR: .*Dockerfile:2.*failed to load cache key: https://127.0.0.1:1/x`},
		{"other frontend", "# syntax=example.com/own/frontend:1\nFROM base\n", `^ERROR: .*example.com/own/frontend:1`},
		{"other frontend at a registry", "# syntax=127.0.0.1:1/own/dockerfile:1\nFROM base\n", `^ERROR: .*metadata for 127.0.0.1:1/own/dockerfile:1: .*connection refused`},
		{"binary", "\x00\x01\x02\xff\xfe", `^ERROR: .*`},
		{"very long line", "FROM base\nRUN " + strings.Repeat("x", 3<<20), `^ERROR: .*`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &patient{t, p.Mica}
			p.refuses(1, c.want, nil, "build", "-t", "app", context(t, c.dockerfile))
		})
	}
	p.healthy()
}

func TestBadContexts(t *testing.T) {
	p := newPatient(t)
	ok := context(t, "FROM base\nCOPY f /\n")
	ignored := context(t, "FROM base\nCOPY f /\n")
	escaping := context(t, "FROM base\nCOPY out /x\n")
	for path, text := range map[string]string{
		filepath.Join(ignored, ".dockerignore"): "f\n",
		filepath.Join(ok, "dir.tar"):            "not an archive",
		filepath.Join(ok, "bad.dockerignore"):   "[\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/shadow", filepath.Join(escaping, "out")); err != nil {
		t.Fatal(err)
	}
	pattern := context(t, "FROM base\nCOPY f /\n")
	if err := os.WriteFile(filepath.Join(pattern, ".dockerignore"), []byte("a\nb[\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.refuses(1, `^ERROR: failed to build: failed to solve: .dockerignore:2: invalid pattern "b\[": syntax error in pattern$`, nil, "build", pattern)
	p.refuses(1, `^ERROR: failed to build: context n: oci-layout:///no/such:1: no such file or directory$`, nil,
		"build", "--build-context", "n=oci-layout:///no/such:1", ok)
	p.refuses(1, `^Error: .*unable to prepare context.*/no/such.*not found`, nil, "build", "/no/such")
	p.refuses(1, `^ERROR: .*Dockerfile:2.*"/f": not found`, nil, "build", ignored)
	p.refuses(1, `^ERROR: .*"?/?etc/shadow"?.*not found|^ERROR: .*out.*not found`, nil, "build", escaping)
	p.refuses(1, `^Error: .*neither a directory nor an archive`, nil, "build", filepath.Join(ok, "dir.tar"))
	p.refuses(1, `Other.Dockerfile: no such file or directory`, nil, "build", "-f", filepath.Join(ok, "Other.Dockerfile"), ok)
	p.refuses(1, `^ERROR: .*failed to fetch remote http://127.0.0.1:1/x.git`, nil, "build", "http://127.0.0.1:1/x.git")
	p.refuses(1, `^ERROR: .*http://127.0.0.1:1/x.tar`, nil, "build", "http://127.0.0.1:1/x.tar")
	p.refuses(1, `requires 1 argument|^Build an image`, nil, "build")
	p.refuses(1, `is empty`, strings.NewReader(""), "build", "-")
	p.refuses(1, `can't use stdin for both`, strings.NewReader(""), "build", "-f", "-", "-")
	p.refuses(125, `unknown flag: --wings`, nil, "build", "--wings", ok)
	p.refuses(1, `invalid tag "a:b:c"`, nil, "build", "-t", "a:b:c", ok)
	p.refuses(1, `target stage "nope" could not be found`, nil, "build", "--target", "nope", ok)
	p.refuses(1, `invalid platform "nonsense/x/y/z"`, nil, "build", "--platform", "nonsense/x/y/z", ok)
	p.refuses(1, `no match for platform linux/s390x`, nil, "build", "--platform", "linux/s390x", ok)
	p.refuses(1, `network mode "bridge" is not supported`, nil, "build", "--network", "bridge", ok)
	p.refuses(1, `unknown output type "cake"`, nil, "build", "-o", "type=cake", ok)
	p.refuses(1, `no such directory`, nil, "build", "-o", "type=oci,dest=/no/such/directory/x.tar", ok)
	p.refuses(1, `OCI runtime "nope" is not on PATH`, nil, "build", "--runtime", "nope", ok)
	p.refuses(1, `progress`, nil, "build", "--progress", "fancy", ok)
	p.refuses(1, `docker.io/library/base:latest: .*(not found|cannot be reached|denied)`, nil, "build", "--pull", ok)
	p.healthy()
}

func TestBadNames(t *testing.T) {
	p := newPatient(t)
	id := strings.TrimPrefix(strings.TrimSpace(p.Run("inspect", "-f", "{{.Id}}", "app")), "sha256:")
	for _, bad := range []string{"UPPER", "a:b:c", "x:-t", "-x/y", "a//b", "../etc", "x@sha256:12", "a b", strings.Repeat("l", 300)} {
		p.refuses(1, `is not a valid repository/tag`, nil, "tag", "app", "--", bad)
	}
	p.refuses(1, `digest`, nil, "tag", "app", "x@sha256:"+id)
	p.refuses(1, `No such image: nope:latest`, nil, "tag", "nope", "x")
	p.refuses(1, `No such image: nope:latest`, nil, "rmi", "nope")
	p.refuses(1, `No such image: nope:latest`, nil, "history", "nope")
	p.refuses(1, `No such image: nope:latest`, nil, "save", "nope")
	p.refuses(1, `No such image: nope:latest`, nil, "export", "nope")
	p.refuses(1, `no such object: nope`, nil, "inspect", "nope")
	p.refuses(1, `no such object`, nil, "inspect", strings.Repeat("0", 64))
	p.refuses(1, `no such object`, nil, "inspect", "sha256:"+strings.Repeat("f", 64))
	p.refuses(1, `invalid reference`, nil, "rmi", "../../../etc/passwd")
	p.refuses(125, `nope:latest.*(not found|cannot be reached|denied)`, nil, "run", "nope")
	p.refuses(125, `No such image: nope:latest`, nil, "run", "--pull", "never", "nope")
	p.refuses(127, `executable file not found in \$PATH`, nil, "run", "app", "nope")
	p.refuses(126, `permission denied`, nil, "run", "app", "/etc/passwd")
	p.refuses(126, `is a directory`, nil, "run", "app", "/etc")
	p.refuses(125, `unknown flag: --wings`, nil, "run", "--wings", "app")
	p.refuses(125, `network "mine" is not supported`, nil, "run", "--network", "mine", "app")
	p.refuses(125, `unable to find user ghost`, nil, "run", "-u", "ghost", "app")
	p.refuses(125, `invalid volume`, nil, "run", "-v", "a:b:c:d", "app")
	p.refuses(125, `named volumes are not supported`, nil, "run", "-v", "data:/x", "app")
	p.refuses(125, `(?i)capabilit`, nil, "run", "--cap-add", "FLY", "app")
	p.healthy()
}

// TestAmbiguousID makes images until two share the first digit of their IDs.
func TestAmbiguousID(t *testing.T) {
	p := newPatient(t)
	for i := range 17 {
		p.Run("build", "-q", "--label", "n="+strings.Repeat("x", i), context(t, "FROM base\n"))
	}
	count := map[byte]int{}
	for _, id := range strings.Fields(p.Run("images", "-aq")) {
		if count[id[0]]++; count[id[0]] == 2 {
			p.refuses(1, `multiple IDs found with provided prefix`, nil, "tag", id[:1], "x")
			p.refuses(1, `multiple IDs found with provided prefix`, nil, "rmi", id[:1])
			return
		}
	}
	t.Fatal("17 images with different first digits")
}
