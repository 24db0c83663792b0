//go:build e2e

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/micabuild/mica/test/rig"
)

// The images that are pushed and pulled: 1 GiB in 8 files that do not compress, and 50,000 small files of words.
const (
	bigFiles, bigSize    = 8, 128 << 20
	manyDirs, manyInEach = 500, 100
	manySize             = 4 << 10
)

// contexts writes the build contexts, the same in every run.
func contexts(dir string) error {
	random := rand.New(rand.NewPCG(1, 2))
	block := make([]byte, bigSize)
	for i := range bigFiles {
		for j := 0; j < len(block); j += 8 {
			v := random.Uint64()
			for k := range 8 {
				block[j+k] = byte(v >> (8 * k))
			}
		}
		if err := write(filepath.Join(dir, "big", "files", fmt.Sprint(i)), block); err != nil {
			return err
		}
	}
	words := make([]string, 2000)
	for i := range words {
		for range 2 + random.IntN(8) {
			words[i] += string(rune('a' + random.IntN(26)))
		}
	}
	for d := range manyDirs {
		for f := range manyInEach {
			text := make([]byte, 0, manySize+16)
			for len(text) < manySize {
				text = append(append(text, words[random.IntN(len(words))]...), ' ')
			}
			if err := write(filepath.Join(dir, "many", "files", fmt.Sprint(d), fmt.Sprint(f)), text); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{"big", "many"} {
		if err := write(filepath.Join(dir, name, "Dockerfile"), []byte("FROM base\nCOPY files /files\nCMD [\"true\"]\n")); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// sink is an empty registry for one push.
func (b *bench) sink() string {
	if b.sinkServer != nil {
		_ = b.sinkServer.Stop()
	}
	r, err := rig.StartRegistry(b.newDir("sink"))
	if err != nil {
		return "127.0.0.1:1"
	}
	b.sinkServer = r
	return r.Addr
}

// newDir is an empty folder for one run. It is removed in the end: ext4 is slow for a while after many files are deleted.
func (b *bench) newDir(kind string) string {
	dir, err := os.MkdirTemp(b.dir, kind+"-")
	if err != nil {
		panic(err)
	}
	return dir
}

// prepare builds an image in each engine, and pushes Docker's to the registry that all pull from.
func (b *bench) prepare(name string) error {
	script := `set -e
cd "$DIR/$NAME"
"$MICA" build -q -t "$NAME" .
docker -H "$DOCKER" build -q --network host -t "$NAME" -t "$REGISTRY/$NAME" .
docker -H "$DOCKER" push -q "$REGISTRY/$NAME"
sed "s#FROM base#FROM $REGISTRY/base#" Dockerfile >Dockerfile.buildah
$BUILDAH bud -q --isolation chroot --tls-verify=false -t "$NAME" -f Dockerfile.buildah .
`
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), "NAME="+name, "DIR="+b.dir, "MICA="+b.mica, "MICA_ROOT="+b.store, "DOCKER="+b.docker.Host,
		"REGISTRY="+b.registry.Addr, "BUILDAH=buildah "+b.buildahFlags(b.buildahStore))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

func (b *bench) buildahFlags(dir string) string {
	return fmt.Sprintf("--root %s/root --runroot %s/run --storage-driver overlay", dir, dir)
}

func (b *bench) buildah(store, args string) *exec.Cmd {
	return exec.Command("sh", "-c", "exec buildah "+b.buildahFlags(store)+" "+args)
}

// transfers lists what is measured of pulls and pushes of one image.
func (b *bench) transfers(name, title string) []work {
	from := b.registry.Addr + "/" + name
	var pushed struct{ mica, docker, buildah string }
	micaPush := func(to string) *exec.Cmd {
		_ = b.micaCommand("tag", name, to).Run()
		return b.micaCommand("push", "-q", to)
	}
	dockerPush := func(to string) *exec.Cmd {
		_ = b.docker.Command("tag", name, to).Run()
		return b.docker.Command("push", "-q", to)
	}
	buildahPush := func(to string) *exec.Cmd {
		return b.buildah(b.buildahStore, "push -q --tls-verify=false localhost/"+name+" docker://"+to)
	}
	run := filepath.Join(b.dir, "run-"+name)
	_ = write(filepath.Join(run, "Dockerfile"), []byte("FROM "+from+"\nRUN [\"true\"]\n"))
	return []work{
		{
			name: "push " + title, before: func() error { return b.prepare(name) },
			mica:    func() *exec.Cmd { pushed.mica = b.sink() + "/" + name; return micaPush(pushed.mica) },
			docker:  func() *exec.Cmd { pushed.docker = b.sink() + "/" + name; return dockerPush(pushed.docker) },
			buildah: func() *exec.Cmd { pushed.buildah = b.sink() + "/" + name; return buildahPush(pushed.buildah) },
		},
		{
			name: "push " + title + " once more",
			mica: func() *exec.Cmd {
				to := b.registry.Addr + "/again-mica-" + name
				_ = micaPush(to).Run()
				return micaPush(to)
			},
			docker: func() *exec.Cmd {
				to := b.registry.Addr + "/again-docker-" + name
				_ = dockerPush(to).Run()
				return dockerPush(to)
			},
			buildah: func() *exec.Cmd {
				to := b.registry.Addr + "/again-buildah-" + name
				_ = buildahPush(to).Run()
				return buildahPush(to)
			},
		},
		{
			name: "download " + title + " (crane: the blobs alone)",
			mica: func() *exec.Cmd { return b.micaIn(b.newDir("pull"), "pull", "-q", from) },
			crane: func() *exec.Cmd {
				return exec.Command(filepath.Join(rig.Top(), "bin", "peers", "crane"), "pull", "--format", "oci", from, b.newDir("crane"))
			},
		},
		{
			name: "pull " + title + ", up to ready to run (mica, BuildKit: having run `true`)",
			mica: func() *exec.Cmd { return b.micaIn(b.newDir("run"), "run", "-q", "--network", "none", from, "true") },
			docker: func() *exec.Cmd {
				_ = b.docker.Command("system", "prune", "-af").Run()
				return b.docker.Command("pull", "-q", from)
			},
			buildah: func() *exec.Cmd {
				return b.buildah(b.newDir("buildah"), "from -q --tls-verify=false "+from)
			},
			buildkit: func() *exec.Cmd {
				_ = b.buildkit.Command("prune", "--all").Run()
				return b.buildkit.Command("build", "--frontend", "dockerfile.v0", "--local", "context="+run, "--local", "dockerfile="+run)
			},
		},
	}
}

func (b *bench) micaIn(store string, args ...string) *exec.Cmd {
	cmd := exec.Command(b.mica, args...)
	cmd.Env = append(os.Environ(), "MICA_ROOT="+store)
	return cmd
}
