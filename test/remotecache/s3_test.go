//go:build e2e

package remotecache

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/micabuild/mica/test/rig"
)

// startS3 starts a service with a bucket, and returns the directory with its objects and the attributes of a cache in it.
func startS3(t *testing.T) (s *rig.S3, objects, attributes string) {
	t.Helper()
	s, err := rig.StartS3(rig.TempDir(t))
	must(t, err)
	t.Cleanup(func() { must(t, s.Stop()) })
	objects, err = s.Bucket("bucket")
	must(t, err)
	return s, objects, "type=s3,bucket=bucket,region=us-east-1,use_path_style=true,endpoint_url=" + s.URL + ",access_key_id=" + s.KeyID + ",secret_access_key=" + s.Secret
}

// TestS3 exchanges caches through a bucket, in both directions.
func TestS3(t *testing.T) {
	c := unpack(t, txtar.Parse([]byte(strings.Replace(commandCase, "head -c 300000 ", "head -c 30000000 ", 1))))
	s, objects, at := startS3(t)
	m, out := c.mica(t, "--cache-from", at+",name=mica", "--cache-to", at+",mode=max,name=mica,prefix=,upload_parallelism=2")
	if list := ran(t, out); len(list) != 6 {
		t.Errorf("in an empty store mica ran %q", list)
	}
	if strings.Contains(out.Stderr, s.Secret) || strings.Contains(out.Stderr, s.KeyID) {
		t.Error("the credentials are in the progress")
	}
	if hasText(t, m.Root, s.Secret) {
		t.Error("the credentials are in the store")
	}
	prune(t)
	if list := c.uncached(t, "--import-cache", at+",name=mica"); len(list) > 0 {
		t.Errorf("BuildKit ran %q, with mica's cache", list)
	}

	prune(t)
	c.buildkit(t, "--export-cache", at+",name=buildkit,mode=max,prefix=other/")
	m, out = c.mica(t, "--cache-from", at+",name=buildkit,prefix=other/", "-t", "found")
	if list := ran(t, out); len(list) > 0 {
		t.Errorf("mica ran %q, with BuildKit's cache", list)
	}
	if got := m.Run("run", "--rm", "found", "sh", "-c", "cat /app/out /app/final"); got != "a\nfinal\n" {
		t.Errorf("what was found holds %q", got)
	}

	// The store of the last build has the layers; another has to fetch them.
	damaged := 0
	must(t, filepath.WalkDir(filepath.Join(objects, "other", "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			damaged++
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				err = os.WriteFile(path, make([]byte, info.Size()), 0o644)
			}
		}
		return err
	}))
	if _, out = c.mica(t, "--cache-from", at+",name=buildkit,prefix=other/", "-t", "found"); damaged == 0 || out.Code == 0 || strings.Contains(out.Stderr, s.Secret) {
		t.Errorf("with %d damaged layers: %s", damaged, out.Stderr)
	}
}

// hasText reports whether a file in a directory has a text.
func hasText(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var data []byte
			data, err = os.ReadFile(path)
			found = found || strings.Contains(string(data), text)
		}
		return err
	}))
	return found
}

// TestS3OfEnvironment: the environment says where the cache is, and has its credentials.
func TestS3OfEnvironment(t *testing.T) {
	c := unpack(t, txtar.Parse([]byte(oneStage)))
	s, _, _ := startS3(t)
	build := func(env ...string) rig.Output {
		cmd := rig.NewMica(t).Command("build", "--progress", "plain", "--build-context", "base=docker-image://"+peer.registry.Addr+"/base:latest",
			"--cache-from", "type=s3,use_path_style=true", "--cache-to", "type=s3,mode=max,use_path_style=true", c.dir)
		cmd.Env = append(cmd.Environ(), "AWS_EC2_METADATA_DISABLED=true", "AWS_BUCKET=bucket", "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL="+s.URL)
		cmd.Env = append(cmd.Env, env...)
		return rig.Run(t, cmd)
	}
	if out := build("HOME=" + rig.TempDir(t)); out.Code == 0 || !strings.Contains(out.Stderr, "no credentials for S3") {
		t.Errorf("without credentials: %s", out.Stderr)
	}
	keys := []string{"AWS_ACCESS_KEY_ID=" + s.KeyID, "AWS_SECRET_ACCESS_KEY=" + s.Secret}
	if out := build(keys[0], "AWS_SECRET_ACCESS_KEY=wrongsecret"); out.Code == 0 || !strings.Contains(out.Stderr, "SignatureDoesNotMatch") || strings.Contains(out.Stderr, "wrongsecret") {
		t.Errorf("with another key: %s", out.Stderr)
	}
	if list := ranOf(t, build(keys...), 3); len(list) == 0 {
		t.Error("an empty cache has steps")
	}
	if list := ranOf(t, build(keys...), 3); len(list) > 0 {
		t.Errorf("mica ran %q", list)
	}
	home := rig.TempDir(t)
	must(t, os.Mkdir(filepath.Join(home, ".aws"), 0o755))
	must(t, os.WriteFile(filepath.Join(home, ".aws", "credentials"), []byte("[default]\naws_access_key_id = "+s.KeyID+"\naws_secret_access_key = "+s.Secret+"\n"), 0o600))
	if list := ranOf(t, build("HOME="+home), 3); len(list) > 0 {
		t.Errorf("with a profile mica ran %q", list)
	}
}
