package sources

import (
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// pgpHome is a directory with an OpenPGP key that gpg uses.
type pgpHome struct {
	t   *testing.T
	dir string
}

// newPGP makes a key. The path of the agent's socket is short.
func newPGP(t *testing.T) *pgpHome {
	t.Helper()
	dir, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	p := &pgpHome{t, dir}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", dir, "--kill", "all").Run()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	p.gpg("--passphrase", "", "--quick-gen-key", "a <a@b>", "ed25519", "sign", "never")
	return p
}

func (p *pgpHome) gpg(args ...string) string { return tool(p.t, "gpg", append(p.args(), args...)...) }

func (p *pgpHome) args() []string { return []string{"--homedir", p.dir, "--batch", "--quiet"} }

// public is the public key.
func (p *pgpHome) public() string { return p.gpg("--armor", "--export") }

// program is a file that git can start as gpg with the key.
func (p *pgpHome) program() string {
	path := filepath.Join(p.dir, "program")
	script := "#!/bin/sh\nexec gpg " + strings.Join(p.args(), " ") + ` "$@"` + "\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// tool returns the output of a program that the test needs.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// newSSHKey makes a key, and returns its file and the public key.
func newSSHKey(t *testing.T) (path, public string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	tool(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
	data, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return path, string(data)
}

// TestGitSignatures: a commit or tag is fetched only if the key that the build names has signed it.
func TestGitSignatures(t *testing.T) {
	t.Parallel()
	pgp := newPGP(t)
	tagKey, tagPublic := newSSHKey(t)
	_, strange := newSSHKey(t)
	r := newRepository(t, nil)
	r.git("tag", "plain")
	r.git("-c", "gpg.program="+pgp.program(), "-c", "user.signingkey=a@b", "commit", "-q", "-S", "--allow-empty", "-m", "signed")
	signed := r.git("rev-parse", "HEAD")
	r.git("tag", "light")
	r.git("tag", "-a", "-m", "a tag", "unsigned")
	r.git("-c", "gpg.format=ssh", "-c", "user.signingkey="+tagKey, "tag", "-s", "-m", "a tag", "signed")

	const requireTag, ignoreTag = pb.AttrGitSignatureVerifyRequireSignedTag, pb.AttrGitSignatureVerifyIgnoreSignedTag
	for name, test := range map[string]struct {
		ref, key string
		attr     string // that is true, too
		fails    string
	}{
		"a commit":                              {ref: signed, key: pgp.public()},
		"a branch":                              {ref: "main", key: pgp.public()},
		"a branch with a key that has expired":  {ref: "main", key: pgp.public(), attr: pb.AttrGitSignatureVerifyRejectExpired},
		"another key":                           {ref: "main", key: newPGP(t).public(), fails: "signature made by unknown entity"},
		"a key of another kind":                 {ref: "main", key: strange, fails: "failed to verify the signature of commit"},
		"no key":                                {ref: "main", attr: requireTag, fails: "signed tag required but no signed tag found"},
		"no signature":                          {ref: "plain", key: pgp.public(), fails: "git object is not signed"},
		"a tag by its own signature":            {ref: "signed", key: tagPublic},
		"a tag by its commit's":                 {ref: "signed", key: pgp.public()},
		"a tag whose own signature is ignored":  {ref: "signed", key: tagPublic, attr: ignoreTag, fails: "failed to read armored public key"},
		"a tag whose own signature is required": {ref: "signed", key: tagPublic, attr: requireTag},
		"a commit's signature in its place":     {ref: "signed", key: pgp.public(), attr: requireTag, fails: "failed to verify the signature of tag"},
		"a tag of another key":                  {ref: "signed", key: strange, attr: requireTag, fails: "failed to verify ssh signature"},
		"a tag without a signature":             {ref: "unsigned", key: pgp.public()},
		"required of a tag without one":         {ref: "unsigned", key: pgp.public(), attr: requireTag, fails: "git object is not signed"},
		"required of a tag that is no object":   {ref: "light", key: pgp.public(), attr: requireTag, fails: "no signed tag found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFetcher(t)
			attrs := map[string]string{pb.AttrFullRemoteURL: r.url, pb.AttrGitSignatureVerifyPubKey: test.key}
			if test.attr != "" {
				attrs[test.attr] = "true"
			}
			for range 2 { // the second time the repository is there
				_, _, err := fetch(t, f, "git://"+r.rest+"#"+test.ref, attrs)
				checkFailure(t, err, test.fails)
			}
		})
	}
}

// checkFailure compares an error with the text that it contains, "" for no error.
func checkFailure(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("error %v, want %q", err, want)
	}
}

// TestFileSignature: a file is fetched only if the key that the build names has signed it, and once, as one without a signature.
func TestFileSignature(t *testing.T) {
	t.Parallel()
	pgp := newPGP(t)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	pgp.gpg("--armor", "--detach-sign", path)
	signature, err := os.ReadFile(path + ".asc")
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]string{pb.AttrHTTPSignatureVerifyPubKey: pgp.public(), pb.AttrHTTPSignatureVerify: string(signature)}
	with := func(attr, value string) map[string]string {
		attrs := maps.Clone(good)
		attrs[attr] = value
		return attrs
	}
	for name, test := range map[string]struct {
		attrs   map[string]string
		content string
		fails   string
	}{
		"signed":                {attrs: good, content: "content"},
		"of the checksum":       {attrs: with(pb.AttrHTTPChecksum, digest.FromString("content").String()), content: "content"},
		"of another checksum":   {attrs: with(pb.AttrHTTPChecksum, digest.FromString("other").String()), content: "content", fails: "digest mismatch"},
		"other content":         {attrs: good, content: "changed", fails: "failed to verify pgp signature"},
		"another key":           {attrs: with(pb.AttrHTTPSignatureVerifyPubKey, newPGP(t).public()), content: "content", fails: "unknown entity"},
		"no signature":          {attrs: with(pb.AttrHTTPSignatureVerify, ""), content: "content", fails: "requires both pubkey and signature"},
		"no key":                {attrs: with(pb.AttrHTTPSignatureVerifyPubKey, ""), content: "content", fails: "requires both pubkey and signature"},
		"something other":       {attrs: with(pb.AttrHTTPSignatureVerify, "x"), content: "content", fails: "failed to verify pgp signature"},
		"a key of another kind": {attrs: with(pb.AttrHTTPSignatureVerifyPubKey, "ssh-ed25519 AAAA"), content: "content", fails: "failed to verify pgp signature"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int32
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"1"`)
				if r.Header.Get("If-None-Match") != "" {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				sent.Add(1)
				_, _ = w.Write([]byte(test.content))
			})
			f := newFetcher(t)
			_, _, err := fetch(t, f, url+"/file", test.attrs)
			checkFailure(t, err, test.fails)
			if test.fails != "" {
				return
			}
			src, err := next(f).Open(url+"/file", test.attrs)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := src.Pin(t.Context()); err != nil || src.Close() != nil {
				t.Error(err)
			}
			if n := sent.Load(); n != 1 {
				t.Errorf("the file was sent %d times", n)
			}
		})
	}
}
