package sources

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
)

// A git bundle is a file with commits and refs. A build may have commits from one, which is a blob (pb.AttrGitBundle), in place of the remote, or
// make one of a commit (pb.AttrGitCheckoutBundle).

// bundleName is the name of the file that is made.
const bundleName = "bundle"

// setBundles reads the attributes of bundles.
func (r *repository) setBundles(attrs map[string]string) error {
	r.asBundle = attrs[pb.AttrGitCheckoutBundle] == "true"
	if r.asBundle && (r.keepGitDir || r.subdir != "") {
		return fmt.Errorf("%s: a bundle has neither a .git directory nor a subdirectory", r.name())
	}
	locator := attrs[pb.AttrGitBundle]
	if locator == "" {
		return nil
	}
	ref, err := ParseBlobRef(locator, attrs)
	if err != nil {
		return fmt.Errorf("%s: %w", r.name(), err)
	}
	switch {
	case r.checksum == "":
		return fmt.Errorf("%s: a build that takes a bundle names the commit: it has no checksum", r.name())
	case r.ref == "":
		r.ref = r.checksum
		if !gitutil.IsCommitSHA(r.ref) {
			return fmt.Errorf("%s: the checksum %s is not that of a commit", r.name(), r.checksum)
		}
	}
	r.bundle = &ref
	return nil
}

// stage makes a bare repository of the bundle, until Close, and returns its directory.
func (r *repository) stage(ctx context.Context) (_ string, err error) {
	if r.staged != "" || r.askErr != nil {
		return r.staged, r.askErr
	}
	temp, err := r.f.Store.TempDir("bundle")
	if err != nil {
		return "", err
	}
	r.teardown = append(r.teardown, temp.Remove)
	file, bare := filepath.Join(temp.Path, "file"), filepath.Join(temp.Path, "repository")
	if err := r.f.writeBlob(ctx, *r.bundle, file); err != nil {
		return "", fmt.Errorf("%s: %w", r.name(), err)
	}
	git, err := r.git(ctx)
	if err != nil {
		return "", err
	}
	refs, err := git.Run(ctx, "ls-remote", "--", file)
	if err != nil {
		return "", r.fail("read the bundle of", err)
	}
	first, _, _ := strings.Cut(string(refs), "\t")
	if !gitutil.IsCommitSHA(first) {
		return "", fmt.Errorf("%s: the bundle has no refs", r.name())
	}
	git, err = initBare(ctx, git, bare, first)
	if err == nil {
		_, err = git.Run(ctx, "fetch", file, "+refs/*:refs/*")
	}
	if err != nil {
		return "", r.fail("read the bundle of", err)
	}
	if _, err := git.Run(ctx, "cat-file", "-e", r.checksum+"^{commit}"); err != nil {
		return "", fmt.Errorf("%s: commit %s is not in the bundle %s", r.name(), r.checksum, r.bundle.Digest)
	}
	r.staged = bare
	return bare, nil
}

// initBare makes an empty repository with the format of an object's name.
func initBare(ctx context.Context, git *gitutil.GitCLI, bare, object string) (*gitutil.GitCLI, error) {
	if err := os.MkdirAll(bare, 0o700); err != nil {
		return nil, err
	}
	git = git.New(gitutil.WithGitDir(bare))
	args := []string{"-c", "init.defaultBranch=master", "init", "--bare"}
	if len(object) == 64 {
		args = append(args, "--object-format=sha256")
	}
	_, err := git.Run(ctx, args...)
	return git, err
}

// fromBundle calls f with the repository of the bundle.
func (r *repository) fromBundle(ctx context.Context, f func(git *gitutil.GitCLI, bare string) error) error {
	bare, err := r.stage(ctx)
	if err != nil {
		return err
	}
	git, err := r.git(ctx)
	if err != nil {
		return err
	}
	git = git.New(gitutil.WithGitDir(bare))
	if err := r.verify(ctx, git); err != nil {
		return err
	}
	return f(git, bare)
}

// writeBundle writes a bundle with the commit and its history, under the name of the ref.
func (r *repository) writeBundle(ctx context.Context, git *gitutil.GitCLI, bare, dir string) (err error) {
	if _, err := os.Lstat(filepath.Join(bare, "shallow")); err == nil { // commits without their parents can be taken from no bundle
		if err := r.fetchAll(ctx, git, bare); err != nil {
			return err
		}
	}
	temp, err := r.f.Store.TempDir("bundle")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, temp.Remove()) }()
	from, to := "refs/mica/"+r.commit, r.fullRef
	if !strings.HasPrefix(to, "refs/") {
		to = "refs/heads/main"
	}
	if _, err := git.Run(ctx, "update-ref", from, r.commit); err != nil {
		return r.fail("bundle", err)
	}
	own, err := initBare(ctx, git, filepath.Join(temp.Path, "repository"), r.commit)
	if err != nil {
		return r.fail("bundle", err)
	}
	path := filepath.Join(dir, bundleName)
	for _, args := range [][]string{{"fetch", "--no-tags", "file://" + bare, from + ":" + to}, {"bundle", "create", path, to}} {
		if _, err := own.Run(ctx, args...); err != nil {
			return r.fail("bundle", err)
		}
	}
	return placed{perm: 0o644}.apply(path, time.Unix(0, 0))
}
