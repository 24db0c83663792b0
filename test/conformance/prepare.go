package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "github.com/moby/buildkit"

// A rig is a copy of BuildKit's module with mica's worker, the compiled suites, and the images that they need.
type rig struct {
	top, dir, source string
}

// prepare makes in bin/conformance what is not there yet.
func prepare(ctx context.Context, top string) (*rig, error) {
	r := &rig{top: top, dir: filepath.Join(top, "bin", "conformance")}
	if err := r.copyModule(ctx); err != nil {
		return nil, fmt.Errorf("copy BuildKit's module: %w", err)
	}
	if err := r.addWorker(); err != nil {
		return nil, err
	}
	for _, s := range suites {
		cmd := exec.CommandContext(ctx, "go", "test", "-trimpath", "-c", "-o", filepath.Join(r.dir, s.binary()), "./"+s.dir)
		cmd.Dir = r.source
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off")
		if err := show(cmd); err != nil {
			return nil, fmt.Errorf("compile %s: %w", s.dir, err)
		}
	}
	if err := r.images(ctx); err != nil {
		return nil, err
	}
	return r, r.signatures(ctx)
}

func (r *rig) copyModule(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", module)
	if err := show(cmd); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}} {{.Version}}", module).Output()
	if err != nil {
		return err
	}
	from, version, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	r.source = filepath.Join(r.dir, "buildkit-"+version)
	if _, err := os.Stat(r.source); err == nil {
		return nil
	}
	part := r.source + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := os.CopyFS(part, os.DirFS(from)); err != nil {
		return err
	}
	return os.Rename(part, r.source)
}

// addWorker adds mica's worker to the copy, and its registration to the packages that are tested.
func (r *rig) addWorker() error {
	code, err := os.ReadFile("worker/worker.go")
	if err != nil {
		return err
	}
	if err := write(filepath.Join(r.source, "mica", "worker", "worker.go"), code); err != nil {
		return err
	}
	for _, s := range suites {
		code := fmt.Sprintf("package %s\n\nimport \"%s/mica/worker\"\n\nfunc init() { worker.Register() }\n", filepath.Base(s.dir), module)
		if err := write(filepath.Join(r.source, s.dir, "mica_test.go"), []byte(code)); err != nil {
			return err
		}
	}
	return nil
}

// mirror is the directory of the images.
func (r *rig) mirror() string { return filepath.Join(r.dir, "mirror") }

// images makes the mirror of docker.io, and names the registry as the suites call it.
func (r *rig) images(ctx context.Context) error {
	if err := show(exec.CommandContext(ctx, filepath.Join(r.top, "scripts", "conformance-images"), r.mirror())); err != nil {
		return fmt.Errorf("make the images: %w", err)
	}
	registry, err := exec.LookPath("docker-registry")
	if err != nil {
		return err
	}
	link := filepath.Join(r.dir, "path", "registry")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(registry, link); err != nil && !os.IsExist(err) {
		return err
	}
	return nil
}

// signFixtures is the directory of the keys and signatures, by BuildKit's name for it in the environment.
func (r *rig) signFixtures() string { return signFixtures + "=" + filepath.Join(r.dir, "signatures") }

const signFixtures = "BUILDKIT_TEST_SIGN_FIXTURES"

// signatures makes the keys of two users and what they have signed, by BuildKit's scripts. Without a key the tests of signatures are skipped.
func (r *rig) signatures(ctx context.Context) error {
	dir := filepath.Join(r.dir, "signatures")
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, user := range []string{"user1", "user2"} {
		for _, kind := range []string{"gpg", "ssh"} {
			cmd := exec.CommandContext(ctx, "sh", filepath.Join(r.source, "hack", "fixtures", "gen_"+kind+"_test_env.sh"), user)
			cmd.Env = append(os.Environ(), r.signFixtures())
			if out, err := cmd.CombinedOutput(); err != nil {
				return errors.Join(fmt.Errorf("make signatures of %s: %w\n%s", user, err, out), os.RemoveAll(dir))
			}
		}
	}
	return nil
}

// write replaces a file whose content differs, so that what is compiled stays so.
func write(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func show(cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}
