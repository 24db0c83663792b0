//go:build e2e

package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// TestMissingSources: an error names the path that was not found, as the user has written it.
func TestMissingSources(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"f": "file", "a/b/c": "c", "ignored": "x", ".dockerignore": "ignored\n"})
	if err := os.Symlink("nowhere", filepath.Join(dir, "a", "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ step, want string }{
		{"COPY nothing /", `"/nothing": not found`},
		{"COPY f a/nothing /d/", `"/a/nothing": not found`},
		{"COPY ../nothing /", `"/nothing": not found`},
		{"COPY f/x /", `"/f/x": not found`},
		{"COPY ignored /", `"/ignored": not found`},
		{"COPY --exclude=*.x nothing /", `"/nothing": not found`},
		{"COPY a/link/x /", `"/a/link/x": not found`},
		{"ADD a/x/no* /", `"/a/x": not found`},
		{"COPY x/*/y /", `"/x": not found`},
		{"COPY a/link/*.go /", `"/a/link": not found`},
		{"COPY f/*.go /", `"/f": not`},
		{"COPY --parents nothing /", `"/nothing": not found`},
		{"COPY --parents a/b/nothing f /", `"/a/b/nothing": not found`},
		{"COPY --parents a/b/./nothing /", `"/a/b/nothing": not found`},
		{"COPY --parents a/./b/nothing /", `"/a/b/nothing": not found`},
		{"COPY --from=files /a/nothing /", `"/a/nothing": not found`},
		{"COPY --from=files /x/no* /", `"/x": not found`},
		{"COPY --from=files --parents /a/b/nothing /", `"/a/b/nothing": not found`},
		{"COPY --from=empty /a /", `"/a": not found`},
		{"COPY --from=named b/nothing /", `"/b/nothing": not found`},
		{"RUN --mount=source=a/nothing,target=/x true", `"/a/nothing": not found`},
		{"RUN --mount=source=f/nothing,target=/x true", `"/f/nothing": not found`},
		{"RUN --mount=from=files,source=a/nothing,target=/x,rw true", `"/a/nothing": not found`},
		{"RUN --mount=from=named,source=b/nothing,target=/x true", `"/b/nothing": not found`},
		{"RUN --mount=from=empty,source=a,target=/x true", `"/a": not found`},
		{"RUN --mount=type=cache,from=files,source=/x/nothing,target=/x true", `"/x/nothing": not found`},
	} {
		text := "FROM scratch AS empty\nFROM scratch AS files\nCOPY a /a\nFROM base\n" + c.step + "\n"
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out := m.Try(nil, "build", "--build-context", "named="+dir+"/a", dir)
		lines := strings.Split(strings.TrimSpace(out.Stderr), "\n")
		if last := lines[len(lines)-1]; out.Code != 1 || !strings.Contains(last, c.want) || !strings.Contains(last, "Dockerfile:5: ") {
			t.Errorf("%s: exit code %d: %s", c.step, out.Code, last)
		}
	}
}

// TestMissingFiles: of the files that flags name, before anything is built.
func TestMissingFiles(t *testing.T) {
	m := newMica(t)
	dir := directory(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY f /\n", "f": "file", "empty/f": "", "bake.hcl": `
target "context" { context = "no/context" }
target "dockerfile" {
  context = "empty"
  dockerfile = "no/dockerfile"
}
target "contexts" {
  contexts = { n = "no/named" }
}
target "secret" { secret = ["id=x,src=no/secret"] }
`})
	for _, args := range []string{
		"build no/context", "build -f no/dockerfile .", "build -f f/dockerfile .", "build -f ../no/dockerfile empty",
		"build --build-context n=no/named .", "build --build-context n=oci-layout://no/layout .", "build --secret id=x,src=no/secret .",
		"build --ssh default=no/key .", "build --metadata-file no/metadata .", "build --iidfile no/iid .", "build -o type=tar,dest=no/tar .",
		"bake -f no/file", "bake -f bake.hcl context", "bake -f bake.hcl dockerfile", "bake -f bake.hcl contexts", "bake -f bake.hcl secret",
		"bake -f bake.hcl --metadata-file no/metadata contexts",
	} {
		cmd := m.Command(strings.Fields(args)...)
		cmd.Dir = dir
		out := rig.Run(t, cmd)
		lines := strings.Split(strings.TrimSpace(out.Stderr), "\n")
		want := ""
		for field := range strings.FieldsFuncSeq(args, func(r rune) bool { return strings.ContainsRune(" =,:", r) }) {
			if strings.Contains(field, "no/") || strings.HasPrefix(field, "f/") {
				want = strings.TrimPrefix(field, "//")
			}
		}
		switch {
		case strings.HasSuffix(want, "/tar"):
			want = "no"
		case want == "":
			want = map[string]string{"context": "no/context", "dockerfile": "empty/no/dockerfile", "contexts": "no/named", "secret": "no/secret"}[args[strings.LastIndex(args, " ")+1:]]
		}
		if last := lines[len(lines)-1]; out.Code != 1 || !strings.Contains(last, want) || strings.Contains(out.Stderr, "exporting") {
			t.Errorf("mica %s: exit code %d, want %s named: %s", args, out.Code, want, fmt.Sprint(last))
		}
	}
	// An empty directory has no Dockerfile, and the name of the file is not all that there is to say.
	if out := m.Try(nil, "build", filepath.Join(dir, "empty")); !strings.Contains(out.Stderr, filepath.Join(dir, "empty", "Dockerfile")+": no such file or directory") {
		t.Error(out.Stderr)
	}
}
