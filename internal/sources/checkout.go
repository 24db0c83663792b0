package sources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/util/gitutil"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/store"
)

// GitLock is the prefix of the lock of a bare repository that is in use. The name of its directory follows.
const GitLock = "git-"

// Fetch checks out the commit that was pinned. A bare repository of each remote is kept in the store's cache/git: only new
// commits are fetched.
func (r *repository) Fetch(ctx context.Context, dir string) error {
	return r.fetched(ctx, func(git *gitutil.GitCLI, bare string) error {
		if r.asBundle {
			return r.writeBundle(ctx, git, bare, dir)
		}
		return r.checkout(ctx, git, bare, dir)
	})
}

// fetched calls f with the bare repository that has the commit, while no other process changes it.
func (r *repository) fetched(ctx context.Context, f func(git *gitutil.GitCLI, bare string) error) (err error) {
	if r.bundle != nil {
		return r.fromBundle(ctx, f)
	}
	git, err := r.git(ctx) // asks the client for secrets: others must not wait for its answer
	if err != nil {
		return err
	}
	name := key(r.remote)
	lock, err := r.f.Store.Lock(ctx, GitLock+name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	bare := r.f.Store.Path("cache", "git", name)
	git = git.New(gitutil.WithGitDir(bare))
	err = r.update(ctx, git, bare)
	if err != nil && ctx.Err() == nil {
		// A tag was moved, a branch became a directory of branches, or git was killed: begin with an empty repository.
		if err := os.RemoveAll(bare); err != nil {
			return err
		}
		err = r.update(ctx, git, bare)
	}
	if err != nil {
		return err
	}
	if err := r.verify(ctx, git); err != nil {
		return err
	}
	return f(git, bare)
}

// local returns the ref of the fetched commit in the bare repository.
func (r *repository) local() string {
	if gitutil.IsCommitSHA(r.ref) || strings.HasPrefix(r.ref, "refs/tags/") {
		return r.ref
	}
	return "tags/" + r.ref
}

// update fetches the commit into the bare repository.
func (r *repository) update(ctx context.Context, git *gitutil.GitCLI, bare string) error {
	if _, err := os.Stat(filepath.Join(bare, "HEAD")); err != nil {
		if err := r.init(ctx, git, bare); err != nil {
			return err
		}
	}
	_ = os.Remove(filepath.Join(bare, "shallow.lock"))
	if gitutil.IsCommitSHA(r.ref) {
		if _, err := git.Run(ctx, "cat-file", "-e", "--", r.ref+"^{commit}"); err == nil {
			return nil
		}
		return r.fetchAll(ctx, git, bare)
	}
	if _, err := git.Run(ctx, "fetch", "--depth=1", "--no-tags", "origin", "--force", "--", r.ref+":"+r.local()); err != nil {
		return r.fail("fetch", err)
	}
	out, err := git.Run(ctx, "rev-parse", r.local())
	if err != nil {
		return r.fail("fetch", err)
	}
	if strings.TrimSpace(string(out)) == r.commit {
		return nil
	}
	// The ref has moved since it was pinned.
	if _, err := git.Run(ctx, "cat-file", "-e", r.commit); err != nil {
		if err := r.fetchAll(ctx, git, bare); err != nil {
			return err
		}
	}
	if _, err := git.Run(ctx, "update-ref", "refs/"+strings.TrimPrefix(r.local(), "refs/"), r.commit, "--no-deref"); err != nil {
		return r.fail("fetch", err)
	}
	return nil
}

func (r *repository) init(ctx context.Context, git *gitutil.GitCLI, bare string) error {
	if _, err := initBare(ctx, git, bare, r.commit); err != nil {
		return r.fail("prepare", err)
	}
	if _, err := git.Run(ctx, "remote", "add", "origin", r.name()); err != nil {
		return r.fail("prepare", err)
	}
	return nil
}

// fetchAll fetches a commit with its history: servers may refuse to send a commit alone that is not the end of a ref.
func (r *repository) fetchAll(ctx context.Context, git *gitutil.GitCLI, bare string) error {
	args := []string{"fetch", "--tags"}
	if _, err := os.Lstat(filepath.Join(bare, "shallow")); err == nil {
		args = append(args, "--unshallow")
	}
	if _, err := git.Run(ctx, append(args, "origin", r.commit)...); err != nil {
		return r.fail("fetch", err)
	}
	return nil
}

// verify compares the checksum with the object of the ref and, for an annotated tag, with its commit.
func (r *repository) verify(ctx context.Context, git *gitutil.GitCLI) error {
	if r.checksum == "" {
		return nil
	}
	var got []string
	for _, what := range []string{r.commit, r.commit + "^{commit}"} {
		out, err := git.Run(ctx, "rev-parse", what)
		if err != nil {
			return r.fail("verify", err)
		}
		sha := strings.TrimSpace(string(out))
		if strings.HasPrefix(sha, r.checksum) {
			return nil
		}
		if !slices.Contains(got, sha) {
			got = append(got, sha)
		}
	}
	return fmt.Errorf("expected checksum to match %s, got %s", r.checksum, strings.Join(got, " or "))
}

// checkout writes the files, with .git if the build keeps it.
func (r *repository) checkout(ctx context.Context, git *gitutil.GitCLI, bare, dir string) error {
	sub := strings.TrimPrefix(path.Join("/", r.subdir), "/")
	tree, gitDir := dir, bare
	switch {
	case r.keepGitDir && sub == "":
		gitDir = filepath.Join(dir, ".git")
		if err := r.clone(ctx, git, bare, dir, gitDir); err != nil {
			return err
		}
	default:
		if sub != "" {
			temp, err := os.MkdirTemp(dir, "checkout")
			if err != nil {
				return err
			}
			tree = temp
		}
		if _, err := git.New(gitutil.WithWorkTree(tree)).Run(ctx, "checkout", "--no-overlay", r.commit, "--", "."); err != nil {
			return r.fail("checkout", err)
		}
	}
	if !r.skipSubmodules {
		if _, err := git.New(gitutil.WithWorkTree(tree), gitutil.WithGitDir(gitDir)).Run(ctx, "submodule", "update", "--init", "--recursive", "--depth=1"); err != nil {
			return r.fail("update submodules of", err)
		}
	}
	if sub != "" {
		if err := r.keepDirectory(tree, sub, dir); err != nil {
			return err
		}
	}
	if r.f.Writable {
		if err := makeWritable(dir); err != nil {
			return err
		}
	}
	if !r.commitTime {
		return nil
	}
	return r.setTimes(ctx, git, dir)
}

// makeWritable lets everybody write the files that nobody may execute (BuildKit, source/git, resetCompatibility014FileModes).
func makeWritable(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Mode()&0o111 != 0 {
			return err
		}
		return root.Chmod(name, info.Mode()|0o222)
	})
}

// clone makes a repository with one commit, whose origin is the remote.
func (r *repository) clone(ctx context.Context, git *gitutil.GitCLI, bare, dir, gitDir string) error {
	own := git.New(gitutil.WithWorkTree(dir), gitutil.WithGitDir(gitDir))
	start := []string{"-c", "init.defaultBranch=master", "init"}
	if len(r.commit) == 64 {
		start = append(start, "--object-format=sha256")
	}
	// By the file protocol: for plain paths git copies files, which has been abused to copy files of the host.
	steps := [][]string{start, {"remote", "add", "origin", "file://" + bare}}
	from := r.ref
	kind, err := git.Run(ctx, "cat-file", "-t", r.commit)
	if err != nil {
		return r.fail("checkout", err)
	}
	switch {
	case gitutil.IsCommitSHA(r.ref):
		from = "refs/mica/" + r.commit
		if _, err := git.Run(ctx, "update-ref", from, r.commit); err != nil {
			return r.fail("checkout", err)
		}
	case strings.TrimSpace(string(kind)) == "tag":
		to := from
		if !strings.HasPrefix(to, "refs/tags/") {
			to = "refs/tags/" + to
		}
		from += ":" + to
	default:
		from += ":" + from
	}
	steps = append(steps,
		[]string{"fetch", "-u", "--depth=1", "--", "origin", from},
		[]string{"checkout", "FETCH_HEAD"},
		[]string{"remote", "set-url", "origin", r.name()},
		[]string{"reflog", "expire", "--all", "--expire=now"},
	)
	for _, args := range steps {
		if _, err := own.Run(ctx, args...); err != nil {
			return r.fail("checkout", err)
		}
	}
	if err := os.Remove(filepath.Join(gitDir, "FETCH_HEAD")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// keepDirectory moves the content of a directory of the checkout to dir and removes the rest. It follows no symlinks.
func (r *repository) keepDirectory(tree, sub, dir string) error {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	at := ""
	for part := range strings.SplitSeq(sub, "/") {
		at = path.Join(at, part)
		info, err := root.Lstat(at)
		if err != nil {
			return fmt.Errorf("invalid subdir %s: %s: %w", sub, r.name(), fs.ErrNotExist)
		}
		if !info.IsDir() {
			return fmt.Errorf("invalid subdir %s: %s is not a directory", sub, at)
		}
	}
	names, err := fs.ReadDir(root.FS(), sub)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := os.Rename(filepath.Join(tree, sub, n.Name()), filepath.Join(dir, n.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(tree)
}

// setTimes gives every file the time of the commit, directories after their content.
func (r *repository) setTimes(ctx context.Context, git *gitutil.GitCLI, dir string) error {
	out, err := git.Run(ctx, "log", "-1", "--format=%ct", r.commit+"^{commit}")
	if err != nil {
		return r.fail("read", err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return r.fail("read", err)
	}
	var names []string
	err = filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	})
	if err != nil {
		return err
	}
	at := unix.NsecToTimespec(time.Unix(seconds, 0).UnixNano())
	for _, name := range slices.Backward(names) {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return nil
}

// RemoveCaches removes the entries of URLs and the bare repositories that are not in use. It returns the freed disk space in
// bytes.
func RemoveCaches(s *store.Store) (freed int64, err error) {
	var errs []error
	for _, kind := range []string{"http", "git"} {
		entries, err := os.ReadDir(s.Path("cache", kind))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			n, err := removeCache(s, kind, e.Name())
			freed += n
			errs = append(errs, err)
		}
	}
	return freed, errors.Join(errs...)
}

func removeCache(s *store.Store, kind, name string) (freed int64, err error) {
	if kind == "git" {
		lock, ok, lockErr := s.TryLock(GitLock + name)
		if lockErr != nil || !ok {
			return 0, lockErr
		}
		defer func() { err = errors.Join(err, lock.Unlock()) }()
	}
	freed, err = s.RemoveTree(s.Path("cache", kind, name))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return freed, err
}
