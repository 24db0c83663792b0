package sources

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
	"github.com/moby/buildkit/util/urlutil"

	"github.com/micabuild/mica/internal/hostfiles"
	"github.com/micabuild/mica/internal/redact"
)

// repository is the source of a commit of a git repository, or of one directory in it.
type repository struct {
	f              *Fetcher
	remote         string
	ref, subdir    string
	checksum       string // a prefix of the commit, "" for any
	keepGitDir     bool
	skipSubmodules bool
	commitTime     bool // files have the commit's time
	knownHosts     string
	sshID          string
	signature      *gitSignature // nil for none that is demanded
	headerSecret   string
	tokenSecret    string

	bundle   *BlobRef // that has the commit in place of the remote, nil for none
	asBundle bool     // the result is a bundle

	resolution
	staged     string // the repository of the bundle, "" as long as it is not there
	pinned     string // the commit, or the object if the result has .git
	asked      bool   // the client, for what follows
	askErr     error
	auth       []string // arguments of git that name authHeader's variable
	authHeader string
	serve      func(net.Conn) // an agent, nil for none
	teardown   []func() error
}

// resolution is what a ref names.
type resolution struct {
	short   string // the ref as the build has it, or the default branch
	fullRef string
	commit  string // the object: an annotated tag has one of its own
	peeled  string // the commit of an annotated tag, "" for others
}

func (f *Fetcher) newRepository(rest string, attrs map[string]string) (*repository, error) {
	if !gitutil.IsGitTransport(rest) {
		rest = "https://" + rest
	}
	u, err := gitutil.ParseURL(rest)
	if err != nil {
		return nil, err
	}
	r := &repository{f: f, remote: u.Remote, signature: readGitSignature(attrs)}
	if u.Opts != nil {
		r.ref, r.subdir = u.Opts.Ref, u.Opts.Subdir
	}
	for k, v := range attrs {
		switch k {
		case pb.AttrKeepGitDir:
			r.keepGitDir = v == "true"
		case pb.AttrFullRemoteURL:
			if !gitutil.IsGitTransport(v) {
				v = "https://" + v
			}
			r.remote = v
		case pb.AttrAuthHeaderSecret:
			r.headerSecret = v
		case pb.AttrAuthTokenSecret:
			r.tokenSecret = v
		case pb.AttrKnownSSHHosts:
			r.knownHosts = v
		case pb.AttrMountSSHSock:
			r.sshID = v
		case pb.AttrGitChecksum:
			r.checksum = v
		case pb.AttrGitSkipSubmodules:
			r.skipSubmodules = v == "true"
		case pb.AttrGitMTime:
			r.commitTime = v == "commit"
		}
	}
	if strings.HasPrefix(r.ref, "-") || strings.HasPrefix(r.remote, "-") {
		return nil, fmt.Errorf("invalid git ref %q", r.ref)
	}
	if r.checksum != "" && !regexp.MustCompile(`^[a-fA-F0-9]+$`).MatchString(r.checksum) {
		return nil, fmt.Errorf("invalid checksum %s for Git URL, expected hex commit hash", r.checksum)
	}
	return r, r.setBundles(attrs)
}

func (r *repository) name() string { return urlutil.RedactCredentials(r.remote) }

// Pin resolves the ref to a commit, without fetching it unless its signature has to be verified.
func (r *repository) Pin(ctx context.Context) (string, error) {
	if err := hostfiles.With(ctx, func() error { _, err := exec.LookPath(program); return err }); errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s: git is not installed: git repositories need it", r.name())
	} else if err != nil {
		return "", err
	}
	pinned, err := r.resolve(ctx)
	if err != nil {
		return "", err
	}
	r.pinned = pinned
	if err := r.verifySignature(ctx); err != nil {
		return "", err
	}
	for _, part := range []struct {
		on   bool
		text string
	}{
		{r.keepGitDir, ".git#" + r.fullRef}, {r.subdir != "", ":" + r.subdir},
		{r.skipSubmodules, "(skip-submodules)"}, {r.commitTime, "(mtime=commit)"}, {r.asBundle, "(bundle)"}, {r.f.Writable && !r.asBundle, "(writable)"},
	} {
		if part.on {
			pinned += part.text
		}
	}
	return pinned, nil
}

// Identity returns the objects and the ref.
func (r *repository) Identity() Identity {
	return Identity{Commit: r.pinned, Object: r.commit, Peeled: r.peeled, Ref: r.fullRef}
}

func (r *repository) resolve(ctx context.Context) (string, error) {
	if gitutil.IsCommitSHA(r.ref) {
		if !strings.HasPrefix(r.ref, r.checksum) {
			return "", fmt.Errorf("expected checksum to match %s, got %s", r.checksum, r.ref)
		}
		r.resolution = resolution{short: r.ref, fullRef: r.ref, commit: r.ref}
		return r.ref, nil
	}
	found, err := r.find(ctx)
	if err != nil {
		return "", err
	}
	if !found.matches(r.checksum) {
		return "", fmt.Errorf("expected checksum to match %s, got %s", r.checksum, strings.Join(nonEmpty(found.commit, found.peeled), " or "))
	}
	r.resolution, r.ref = found, found.short
	if r.peeled != "" && !r.keepGitDir {
		return r.peeled, nil
	}
	return r.commit, nil
}

// find finds out what the ref names.
func (r *repository) find(ctx context.Context) (resolution, error) {
	if r.bundle != nil {
		staged, err := r.stage(ctx)
		if err != nil {
			return resolution{}, err
		}
		return r.lookUp(ctx, "file://"+staged)
	}
	found, err := r.f.refs.do(ctx, r.remote+"#"+r.ref, func() (resolution, error) { return r.lookUp(ctx, r.name()) })
	if err == nil && !found.matches(r.checksum) { // the ref may have moved since the build first asked
		found, err = r.lookUp(ctx, r.name())
	}
	return found, err
}

// matches reports whether a checksum is a prefix of the object or of its commit.
func (n *resolution) matches(checksum string) bool {
	return strings.HasPrefix(n.commit, checksum) || n.peeled != "" && strings.HasPrefix(n.peeled, checksum)
}

// patternChars are what git ls-remote takes for a pattern. No name of a ref has them (git-check-ref-format).
const patternChars = `*?[\`

// lookUp asks a remote what the ref names now.
func (r *repository) lookUp(ctx context.Context, remote string) (n resolution, err error) {
	git, err := r.git(ctx)
	if err != nil {
		return n, err
	}
	if n.short = r.ref; n.short == "" {
		if n.short, err = r.defaultBranch(ctx, git); err != nil {
			return n, err
		}
	}
	missing := fmt.Errorf("%s: repository does not contain ref %s", r.name(), n.short)
	if strings.ContainsAny(n.short, patternChars) {
		return n, missing
	}
	out, err := git.Run(ctx, "ls-remote", "--", remote, n.short, n.short+"^{}")
	if err != nil {
		return n, r.fail("fetch", err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		sha, ref, _ := strings.Cut(strings.TrimSpace(line), "\t")
		found[ref] = sha
	}
	// A ref in full, else a branch, else a tag, as in git checkout.
	tag := "refs/tags/" + strings.TrimPrefix(n.short, "refs/tags/")
	for _, ref := range []string{"refs/" + strings.TrimPrefix(n.short, "refs/"), "refs/heads/" + strings.TrimPrefix(n.short, "refs/heads/"), tag} {
		if n.commit = found[ref]; n.commit != "" {
			n.fullRef = ref
			break
		}
	}
	if !gitutil.IsCommitSHA(n.commit) {
		return n, missing
	}
	if n.fullRef == tag {
		n.peeled = found[tag+"^{}"]
	}
	return n, nil
}

func nonEmpty(list ...string) []string {
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

var symref = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`refs/heads/(\S+)`) })

func (r *repository) defaultBranch(ctx context.Context, git *gitutil.GitCLI) (string, error) {
	out, err := git.Run(ctx, "ls-remote", "--symref", r.name(), "HEAD")
	if err != nil {
		return "", r.fail("fetch", err)
	}
	if m := symref().FindSubmatch(out); m != nil {
		return string(m[1]), nil
	}
	return "", fmt.Errorf("could not find default branch for repository: %s", r.name())
}

// fail returns git's error as one line, without credentials.
func (r *repository) fail(what string, err error) error {
	text := err.Error()
	if _, stderr, ok := strings.Cut(text, "git stderr:\n"); ok {
		text, _, _ = strings.Cut(stderr, ": exit status")
	}
	return fmt.Errorf("failed to %s remote %s: %s", what, r.name(), redact.URLs(strings.Join(strings.Fields(text), " ")))
}

// credentials returns variables that configure git to send the URL's credentials to the remote's host, in place of the masked
// ones of r.name. Other users may read arguments, and a repository's configuration is kept: neither has them.
func (r *repository) credentials() []string {
	real, err := url.Parse(r.remote)
	if err != nil || real.User == nil || r.name() == r.remote {
		return nil
	}
	shown, err := url.Parse(r.name())
	if err != nil {
		return nil
	}
	base := func(u *url.URL) string {
		return (&url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, Path: "/"}).String()
	}
	return []string{
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url." + base(real) + ".insteadOf", "GIT_CONFIG_VALUE_0=" + base(shown),
	}
}

// git returns the program with credentials, an agent and known hosts, and without the user's configuration.
func (r *repository) git(ctx context.Context) (*gitutil.GitCLI, error) {
	if r.authenticate(ctx); r.askErr != nil {
		return nil, r.askErr
	}
	opts := []gitutil.Option{gitutil.WithArgs(r.auth...), gitutil.WithExec(r.run)}
	if ca := os.Getenv("GIT_SSL_CAINFO"); ca != "" {
		opts = append(opts, gitutil.WithArgs("-c", "http.sslCAInfo="+ca))
	}
	if !r.usesSSH() {
		return gitutil.NewGitCLI(opts...), nil
	}
	temp, err := r.f.Store.TempDir("git")
	if err != nil {
		return nil, err
	}
	r.teardown = append(r.teardown, temp.Remove)
	if r.knownHosts != "" {
		hosts := filepath.Join(temp.Path, "known_hosts")
		if err := os.WriteFile(hosts, []byte(r.knownHosts), 0o600); err != nil {
			return nil, err
		}
		opts = append(opts, gitutil.WithSSHKnownHosts(hosts))
	}
	if r.serve != nil {
		socket, err := r.listen(r.serve)
		if err != nil {
			return nil, err
		}
		opts = append(opts, gitutil.WithSSHAuthSock(socket))
	}
	return gitutil.NewGitCLI(opts...), nil
}

// listen serves an agent on a socket. The path of a socket must be short: it is not in the store.
func (r *repository) listen(serve func(net.Conn)) (string, error) {
	dir, err := os.MkdirTemp("", "mica-ssh-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	r.teardown = append(r.teardown, func() error { return errors.Join(l.Close(), os.RemoveAll(dir)) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return path, nil
}

// Asks reports whether git needs a secret, an agent or a bundle.
func (r *repository) Asks() bool {
	return r.bundle != nil && r.staged == "" || !r.asked && (r.headerSecret != "" || r.tokenSecret != "" || r.usesSSH())
}

// Ask asks for them. The bundle is read whole.
func (r *repository) Ask(ctx context.Context) {
	if r.authenticate(ctx); r.askErr == nil && r.bundle != nil {
		_, r.askErr = r.stage(ctx)
	}
}

// usesSSH reports whether git may use an agent.
func (r *repository) usesSSH() bool { return r.sshID != "" || r.knownHosts != "" }

// authenticate asks for the secret for the remote, and for the agent, once.
func (r *repository) authenticate(ctx context.Context) {
	if r.asked {
		return
	}
	r.asked = true
	if r.askErr = r.readSecret(ctx); r.askErr == nil && r.usesSSH() && r.f.SSH != nil {
		r.serve = r.f.SSH(ctx, r.sshID)
	}
}

// readSecret asks for the secret for the remote: that of its host, else the one for all hosts.
func (r *repository) readSecret(ctx context.Context) error {
	for _, s := range []struct {
		id    string
		token bool
	}{{r.headerSecret + "." + hostOf(r.remote), false}, {r.tokenSecret + "." + hostOf(r.remote), true}, {r.headerSecret, false}, {r.tokenSecret, true}} {
		if s.id == "" || strings.HasPrefix(s.id, ".") {
			continue
		}
		value, ok, err := r.f.secret(ctx, s.id)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if s.token {
			value = "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+value))
		}
		// The header is in the environment: other users may read arguments.
		r.auth = []string{"--config-env=http." + tokenScope(r.remote) + ".extraheader=" + authVariable}
		r.authHeader = "Authorization: " + strings.TrimSpace(value)
		return nil
	}
	return nil
}

const authVariable = "MICA_GIT_AUTH"

// tokenScope returns the URLs to which a token is sent: those of the repository, or all of GitHub, as in actions/checkout.
func tokenScope(remote string) string {
	if u, err := url.Parse(remote); err == nil && u.User != nil {
		u.User = nil
		remote = u.String()
	}
	for _, all := range []string{"https://github.com/", "https://www.github.com/"} {
		if strings.HasPrefix(remote, all) {
			return all
		}
	}
	return remote
}

// Close ends the agent and removes temporary files.
func (r *repository) Close() error {
	var errs []error
	for _, t := range r.teardown {
		errs = append(errs, t())
	}
	r.teardown = nil
	return errors.Join(errs...)
}
