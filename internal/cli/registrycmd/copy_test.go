package registrycmd

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/micabuild/mica/internal/cli/command/commandtest"
	"github.com/micabuild/mica/internal/registry/registrytest"
)

// TestCopy: an image goes through every kind of place and keeps its digest.
func TestCopy(t *testing.T) {
	t.Parallel()
	f, dir := newFixture(t), t.TempDir()
	index, _, _ := f.reg.PutPlatforms("app", "1")
	places := []string{"REG/app:1", "REG/copy:1", "oci:" + dir + "/layout:1", "oci-archive:" + dir + "/archive.tar:1", "REG/again:latest"}
	for i, to := range places[1:] {
		if got := f.run(NewCopyCommand, places[i]+" "+to); got.out != index.Digest+"\n" || got.err != "" || !strings.Contains(got.stderr, ": Copied\n") && !strings.Contains(got.stderr, ": Mounted from ") {
			t.Errorf("%s to %s: %+v", places[i], to, got)
		}
	}
	if got := f.reg.Manifest("again", "latest"); registrytest.Digest(got.Data) != index.Digest {
		t.Errorf("what arrived is %s", got.Data)
	}
	if images, err := f.Images.List(t.Context()); len(images) > 0 || err != nil {
		t.Errorf("%d images are in the store, %v", len(images), err)
	}
	f.test(t, NewCopyCommand, "--quiet REG/app:1 REG/quiet", outcome{out: index.Digest + "\n"})
}

// TestCopyOnePlatform: into an archive of docker, which has the image's name.
func TestCopyOnePlatform(t *testing.T) {
	t.Parallel()
	f, dir := newFixture(t), t.TempDir()
	_, ours, theirs := f.reg.PutPlatforms("app", "1")
	f.test(t, NewCopyCommand, "-q --platform linux/"+registrytest.OtherArch()+" REG/app:1 REG/other:1", outcome{out: theirs.Digest + "\n"})
	f.test(t, NewCopyCommand, "-q --platform all REG/app:1 oci:"+dir+"/all", outcome{out: registrytest.Digest(f.reg.Manifest("app", "1").Data) + "\n"})
	arch := "linux/" + runtime.GOARCH
	f.test(t, NewCopyCommand, "-q --platform "+arch+" REG/app:1 docker-archive:"+dir+"/a.tar", outcome{out: ours.Digest + "\n"})
	data, err := os.ReadFile(filepath.Join(dir, "a.tar"))
	if want := `"RepoTags":["` + f.reg.Name("app:1") + `"]`; err != nil || !strings.Contains(string(data), want) {
		t.Errorf("%v: the archive has no %s", err, want)
	}
}

func TestCopyReferrers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	image := f.reg.PutImage("app", "1", "amd64", nil, registrytest.Layer(t, "f", []byte("x")))
	signature := f.reg.PutSignature("app", "", &image, "signed")
	for flag, want := range map[string]bool{"": false, "--referrers": true} {
		repo := "copy" + strings.Trim(flag, "-")
		f.test(t, NewCopyCommand, "-q "+flag+" REG/app:1 REG/"+repo+":1", outcome{out: image.Digest + "\n"})
		if got := f.reg.Manifest(repo, signature.Digest).Data != nil; got != want {
			t.Errorf("%q: the signature was copied: %t, want %t", flag, got, want)
		}
	}
}

func TestCopyFails(t *testing.T) {
	t.Parallel()
	f, dir := newFixture(t), t.TempDir()
	f.reg.PutPlatforms("app", "1")
	f.fails(t, NewCopyCommand, map[string]string{
		"A REG/b":                            badName,
		"REG/app:1 A":                        badName,
		"REG/app:1 oci:":                     `"oci:" has no path: write oci:PATH`,
		"oci: REG/b":                         `"oci:" has no path: write oci:PATH`,
		"REG/nosuch REG/b":                   "manifest for REG/nosuch:latest not found: manifest unknown",
		"--platform a/b/c/d REG/app:1 REG/b": `invalid platform "a/b/c/d": "a/b/c/d": cannot parse platform specifier: invalid argument`,
	})
	for args, want := range map[string]string{
		"--platform linux/s390x REG/app:1 REG/b":                     "copy REG/app:1 to REG/b: ",
		"oci:" + dir + "/no REG/b":                                   dir + "/no",
		"oci-archive:" + dir + " REG/b":                              "",
		"docker-archive:" + commandtest.File(t, "f", "x") + " REG/b": "",
	} {
		if got := f.run(NewCopyCommand, args); got.err == "" || !strings.Contains(got.err, want) || got.out != "" {
			t.Errorf("%s: %+v, want %q", args, got, want)
		}
	}
}
