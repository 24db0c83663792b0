//go:build e2e

package hurt

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// layers are the DiffIDs of an image, without "sha256:".
func (p *patient) layers(ref string) []string {
	p.t.Helper()
	var ids []string
	if err := json.Unmarshal([]byte(p.Run("inspect", "-f", "{{json .RootFS.Layers}}", ref)), &ids); err != nil {
		p.t.Fatal(err)
	}
	for i := range ids {
		ids[i] = strings.TrimPrefix(ids[i], "sha256:")
	}
	return ids
}

// damage changes one byte in the middle of a file of the store.
func (p *patient) damage(elem ...string) {
	p.t.Helper()
	path := filepath.Join(append([]string{p.Root}, elem...)...)
	data, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	data[len(data)/2] ^= 0x20
	p.write(path, data)
}

func (p *patient) write(path string, data []byte) {
	p.t.Helper()
	if err := os.Chmod(path, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// rebuilt: building again mends whatever is wrong.
func (p *patient) rebuilt() {
	p.t.Helper()
	p.Run("build", "-q", "-t", "app", context(p.t, "FROM base\nCOPY f /f\nRUN echo built > /built\n"))
	p.healthy()
}

func TestDamagedConfigAndManifest(t *testing.T) {
	for _, what := range []string{"config", "manifest"} {
		t.Run(what, func(t *testing.T) {
			p := newPatient(t)
			id := strings.TrimSpace(p.Run("inspect", "-f", "{{.Id}}", "app"))
			if what == "manifest" {
				meta := filepath.Join(rig.TempDir(t), "meta")
				p.Run("build", "-q", "-t", "app", "--metadata-file", meta, context(t, "FROM base\nCOPY f /f\nRUN echo built > /built\n"))
				data, err := os.ReadFile(meta)
				if err != nil {
					t.Fatal(err)
				}
				var m map[string]any
				if err := json.Unmarshal(data, &m); err != nil {
					t.Fatal(err)
				}
				id = m["containerimage.digest"].(string)
			}
			p.damage("blobs", "sha256", strings.TrimPrefix(id, "sha256:"))
			p.refuses(1, id+`.*damaged|damaged.*`+id, nil, "inspect", "app")
			p.refuses(1, `damaged`, nil, "history", "app")
			p.refuses(125, `damaged`, nil, "run", "app")
			p.refuses(1, `damaged`, nil, "save", "-o", "/dev/null", "app")
			p.refuses(1, `damaged`, nil, "image", "prune", "-f")
			// What is whole still works, and is still listed.
			if out := p.Try(nil, "images"); !strings.Contains(out.Stdout, "base ") || !strings.Contains(out.Stderr, "damaged") {
				t.Errorf("images: %q %q", out.Stdout, out.Stderr)
			}
			p.Run("run", "base", "true")
			p.rebuilt()
		})
	}
}

func TestDamagedTOC(t *testing.T) {
	p := newPatient(t)
	for _, id := range p.layers("app") {
		p.damage("layers", id, "toc")
		p.healthy()
		if err := os.Remove(filepath.Join(p.Root, "layers", id, "toc")); err != nil {
			t.Fatal(err)
		}
		p.healthy()
		p.create(filepath.Join(p.Root, "layers", id, "toc"), nil)
		p.healthy()
	}
	p.Run("save", "-o", "/dev/null", "app")
}

func (p *patient) create(path string, data []byte) {
	p.t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// TestDamagedTree: a tree that has a blob is made again from it; one that has none is reported by name.
func TestDamagedTree(t *testing.T) {
	p := newPatient(t, "MICA_TREES=directories")
	ids := p.layers("app")
	base, run := ids[0], ids[len(ids)-1]
	for _, hurt := range []func(tree string) error{
		func(tree string) error { return os.Remove(filepath.Join(tree, "etc/group")) },
		func(tree string) error { return os.WriteFile(filepath.Join(tree, "etc/more"), nil, 0o600) },
		func(tree string) error { return os.Truncate(filepath.Join(tree, "etc/passwd"), 3) },
		func(tree string) error { return os.Chmod(filepath.Join(tree, "etc"), 0o700) },
		os.RemoveAll,
	} {
		if err := hurt(filepath.Join(p.Root, "layers", base, "tree")); err != nil {
			t.Fatal(err)
		}
		p.healthy()
		if got := p.Run("run", "base", "wc", "-l", "/etc/group"); got != "4 /etc/group\n" {
			t.Errorf("the base has %q", got)
		}
	}
	if err := os.Truncate(filepath.Join(p.Root, "layers", run, "tree/built"), 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		out := p.Try(nil, "run", "app")
		if out.Code != 125 || !strings.Contains(out.Stderr, "sha256:"+run) || !strings.Contains(out.Stderr, "damaged") {
			t.Errorf("exit code %d, %q", out.Code, out.Stderr)
		}
	}
	p.rebuilt()
}

// TestRootDamagedImageTree is TestDamagedTree of trees that are files.
func TestRootDamagedImageTree(t *testing.T) {
	p := newPatient(t)
	ids := p.layers("app")
	base, copied := ids[0], ids[1]
	zero := func(from, size int64) func(string) error {
		return func(tree string) error {
			f, err := os.OpenFile(tree, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, size), from)
			return errors.Join(err, f.Close())
		}
	}
	damages := []func(tree string) error{
		zero(0, 4096), zero(1152, 300), zero(4096, 4096), os.Remove,
		func(tree string) error { return os.Truncate(tree, 0) },
		func(tree string) error { return os.Truncate(tree, 12288) },
	}
	for i, hurt := range damages {
		if err := hurt(filepath.Join(p.Root, "layers", base, "tree.erofs")); err != nil {
			t.Fatal(err)
		}
		p.healthy()
		if got := p.Run("run", "base", "wc", "-l", "/etc/group"); got != "4 /etc/group\n" {
			t.Errorf("damage %d: the base has %q", i, got)
		}
	}
	if err := zero(0, 2048)(filepath.Join(p.Root, "layers", copied, "tree.erofs")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		out := p.Try(nil, "run", "app")
		if out.Code != 125 || !strings.Contains(out.Stderr, "sha256:"+copied) || !strings.Contains(out.Stderr, "damaged") {
			t.Errorf("exit code %d, %q", out.Code, out.Stderr)
		}
	}
	p.rebuilt()
}

// TestDamagedLayerBlob: a blob whose content is another is never used.
func TestDamagedLayerBlob(t *testing.T) {
	p := newPatient(t)
	base := p.layers("base")[0]
	p.damage("blobs", "sha256", base)
	// The tree stands; whoever wants the tar gets an error, not the wrong one.
	out := p.Try(nil, "save", "-o", filepath.Join(rig.TempDir(t), "x.tar"), "base")
	if out.Code != 1 || !strings.Contains(out.Stderr, "damaged") {
		t.Errorf("save: exit code %d, %q", out.Code, out.Stderr)
	}
	p.healthy()
	for _, tree := range []string{"tree", "tree.erofs"} {
		if err := os.RemoveAll(filepath.Join(p.Root, "layers", base, tree)); err != nil {
			t.Fatal(err)
		}
	}
	out = p.Try(nil, "run", "base", "true")
	if out.Code != 125 || !strings.Contains(out.Stderr, "damaged") {
		t.Errorf("run: exit code %d, %q", out.Code, out.Stderr)
	}
}

func TestDamagedNames(t *testing.T) {
	p := newPatient(t)
	names := filepath.Join(p.Root, "refs", "names")
	var files []string
	err := filepath.Walk(names, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) != 2 {
		t.Fatalf("%v: %v", files, err)
	}
	good := map[string][]byte{}
	for _, f := range files {
		if good[f], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	for name, bad := range map[string]string{
		"empty": "", "no JSON": "{", "another JSON": `[1]`, "hostile digest": `{"digest":"sha256:../../../../etc/passwd","size":1}`,
		"unknown digest": `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1}`,
	} {
		for _, f := range files {
			p.write(f, []byte(bad))
			for _, args := range [][]string{{"images"}, {"inspect", "app"}, {"inspect", "base"}, {"history", "app"}} {
				out := p.Try(nil, args...)
				if strings.Contains(out.Stderr, "panic") || strings.Contains(out.Stderr, "goroutine") {
					t.Fatalf("%s: %s", name, out.Stderr)
				}
				if out.Code == 0 && out.Stderr == "" && args[0] == "images" && strings.Count(out.Stdout, "latest") == 2 {
					t.Errorf("%s: images does not notice", name)
				}
			}
			p.write(f, good[f])
		}
	}
	p.healthy()
}

func TestForeignStore(t *testing.T) {
	p := newPatient(t)
	p.write(filepath.Join(p.Root, "version"), []byte("mica store 99\n"))
	p.refuses(1, `it has another format`, nil, "images")
	p.write(filepath.Join(p.Root, "version"), []byte("mica store 2\n"))
	p.healthy()
	p.Root = "/dev/null/store"
	if out := p.Try(nil, "images"); out.Code != 1 || strings.Count(out.Stderr, "\n") != 1 {
		t.Errorf("exit code %d, %q", out.Code, out.Stderr)
	}
}
