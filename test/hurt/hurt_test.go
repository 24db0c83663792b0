//go:build e2e

// Package hurt gives mica bad input, full disks, damaged stores and sudden deaths. Whatever happens, it must say one
// clear line, exit with the right code, leave the store as it was and nothing mounted, and work the next time. It needs
// root, to mount small filesystems and to make device nodes.
package hurt

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// patient is a mica with a base image and an image built on it.
type patient struct {
	t *testing.T
	*rig.Mica
}

func newPatient(t *testing.T, env ...string) *patient {
	t.Helper()
	p := &patient{t, rig.NewMica(t)}
	p.Env = append(p.Env, env...)
	rig.ImportBusybox(t, p.Mica, "base")
	p.Run("build", "-q", "-t", "app", context(t, "FROM base\nCOPY f /f\nRUN echo built > /built\n"))
	return p
}

// context is a directory with a Dockerfile and a file f.
func context(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := rig.TempDir(t)
	for name, text := range map[string]string{"Dockerfile": dockerfile, "f": "content of f\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// state is what may not change: the names, the images, and the identities of all layers and blobs.
func (p *patient) state() string {
	p.t.Helper()
	var list []string
	for _, dir := range []string{"blobs", "layers", "refs"} {
		root := filepath.Join(p.Root, dir)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(p.Root, path)
			if d.Name() == "blobs" {
				return nil // the record of a layer's blobs may list some that are gone
			}
			if strings.HasPrefix(d.Name(), "tree") {
				list = append(list, rel)
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
				rel += " " + info.ModTime().String()
			}
			list = append(list, rel)
			return nil
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// healthy: nothing is mounted or left in tmp by whoever ended, and the next commands work.
func (p *patient) healthy() {
	p.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		p.t.Fatal(err)
	}
	if strings.Contains(string(mounts), p.Root+"/") {
		p.t.Errorf("something is still mounted:\n%s", mounts)
	}
	if got := p.Run("run", "app", "cat", "/built", "/f"); got != "built\ncontent of f\n" {
		p.t.Errorf("the image runs to %q", got)
	}
}

// usage is what follows an error in the use of a command.
var usage = regexp.MustCompile(`(?s)\n\n(Usage:  mica .*)?(Run|See) 'mica .*$`)

// refuses expects an exit code and, as the last line of stderr before the usage, one that matches want; and nothing changed.
func (p *patient) refuses(code int, want string, stdin io.Reader, args ...string) {
	p.t.Helper()
	name := strings.Join(args, " ")
	before := p.state()
	out := p.Try(stdin, args...)
	if out.Code != code {
		p.t.Errorf("%s: exit code %d, want %d\n%s", name, out.Code, code, out.Stderr)
	}
	for _, internal := range []string{"panic", "goroutine ", ".go:", "runtime error", "0xc0"} {
		if strings.Contains(out.Stderr, internal) {
			p.t.Errorf("%s: internals show:\n%s", name, out.Stderr)
		}
	}
	text := strings.TrimRight(usage.ReplaceAllString(out.Stderr, ""), "\n")
	last := text[strings.LastIndex(text, "\n")+1:]
	if ok, err := regexp.MatchString(want, last); err != nil || !ok {
		p.t.Errorf("%s: says %q, want %q", name, last, want)
	}
	if after := p.state(); after != before {
		p.t.Errorf("%s: the store changed:\n%s", name, difference(before, after))
	}
}

// difference lists the lines that are in one only.
func difference(before, after string) string {
	var d []string
	b, a := strings.Split(before, "\n"), strings.Split(after, "\n")
	for _, l := range b {
		if !slices.Contains(a, l) {
			d = append(d, "- "+l)
		}
	}
	for _, l := range a {
		if !slices.Contains(b, l) {
			d = append(d, "+ "+l)
		}
	}
	return strings.Join(d, "\n")
}
