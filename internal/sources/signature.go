package sources

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil/gitobject"
	"github.com/moby/buildkit/util/gitutil/gitsign"
	"github.com/moby/buildkit/util/pgpsign"
)

// Signatures are verified by every build, before a result is looked for in a cache: the keys of caches do not contain them.

// gitSignature is what a build demands of the signature of a commit, or of the annotated tag that names it.
type gitSignature struct {
	key           []byte // OpenPGP, armored, or of SSH
	rejectExpired bool   // the key must not have expired
	requireTag    bool   // the signature of the tag counts alone
	ignoreTag     bool   // the signature of the commit counts, though the tag has one
}

// readGitSignature returns nil if the attributes of a source demand no signature.
func readGitSignature(attrs map[string]string) *gitSignature {
	var s gitSignature
	found := false
	for attr, set := range map[string]func(v string){
		pb.AttrGitSignatureVerifyPubKey:           func(v string) { s.key = []byte(v) },
		pb.AttrGitSignatureVerifyRejectExpired:    func(v string) { s.rejectExpired = v == "true" },
		pb.AttrGitSignatureVerifyRequireSignedTag: func(v string) { s.requireTag = v == "true" },
		pb.AttrGitSignatureVerifyIgnoreSignedTag:  func(v string) { s.ignoreTag = v == "true" },
	} {
		if v, ok := attrs[attr]; ok {
			set(v)
			found = true
		}
	}
	if !found {
		return nil
	}
	return &s
}

// verifySignature verifies the signature of what was pinned, if the build demands one.
func (r *repository) verifySignature(ctx context.Context) error {
	s := r.signature
	if s == nil {
		return nil
	}
	mark := key("git signature", r.commit, string(s.key), strconv.FormatBool(s.requireTag), strconv.FormatBool(s.ignoreTag))
	if !s.rejectExpired && r.f.marked(mark) {
		return nil
	}
	objects, err := r.Objects(ctx)
	if err != nil {
		return err
	}
	if err := s.verify(r.commit, &objects); err != nil {
		return fmt.Errorf("%s: %w", r.name(), err)
	}
	if !s.rejectExpired { // a key expires later
		r.f.mark(mark)
	}
	return nil
}

// verify verifies the objects of a name: the tag if it has a valid signature, otherwise the commit.
func (s *gitSignature) verify(name string, o *Objects) error {
	tagErr := errors.New("signed tag required but no signed tag found")
	if len(o.Tag) > 0 && !s.ignoreTag {
		if tagErr = s.verifyObject("tag", name, o.Tag); tagErr == nil {
			return nil
		}
	}
	if s.requireTag {
		return tagErr
	}
	if o.Peeled != "" {
		name = o.Peeled
	}
	return s.verifyObject("commit", name, o.Commit)
}

// verifyObject verifies the signature in an object, and that the object has its name.
func (s *gitSignature) verifyObject(kind, name string, data []byte) error {
	obj, err := gitobject.Parse(data)
	if err == nil {
		err = obj.VerifyChecksum(name)
	}
	if err == nil {
		err = gitsign.VerifySignature(obj, s.key, &pgpsign.VerifyPolicy{RejectExpiredKeys: s.rejectExpired})
	}
	if err != nil {
		return fmt.Errorf("failed to verify the signature of %s %s: %w", kind, name, err)
	}
	return nil
}

// fileSignature is a detached OpenPGP signature of a file, and the key that must have made it, both armored.
type fileSignature struct{ key, signature string }

// readFileSignature returns nil if the attributes of a source demand no signature.
func readFileSignature(attrs map[string]string) (*fileSignature, error) {
	publicKey, hasKey := attrs[pb.AttrHTTPSignatureVerifyPubKey]
	signature, hasSignature := attrs[pb.AttrHTTPSignatureVerify]
	switch {
	case !hasKey && !hasSignature:
		return nil, nil
	case publicKey == "" || signature == "":
		return nil, errors.New("http signature verification requires both pubkey and signature")
	}
	return &fileSignature{publicKey, signature}, nil
}

// verifySignature verifies the signature of the content that was pinned, if the build demands one. The content is there for Fetch then.
func (s *file) verifySignature(ctx context.Context) error {
	if s.signature == nil {
		return nil
	}
	mark := key("http signature", s.got.Digest.String(), s.signature.key, s.signature.signature)
	if s.f.marked(mark) {
		return nil
	}
	err := s.read(ctx, func(content io.Reader) error {
		err := pgpsign.VerifyArmoredDetachedSignature(content, []byte(s.signature.signature), []byte(s.signature.key), nil)
		if err != nil {
			return fmt.Errorf("failed to verify pgp signature: %w", err)
		}
		return nil
	})
	if err == nil {
		s.f.mark(mark)
	}
	return err
}

// marked reports whether an earlier build has found a signature to be valid.
func (f *Fetcher) marked(name string) bool {
	_, err := os.Lstat(f.Store.Path("cache", "http", name))
	return err == nil
}

// mark notes that a signature is valid, for later builds. Without the note it is verified again: errors do not matter.
func (f *Fetcher) mark(name string) {
	path := f.Store.Path("cache", "http", name)
	if os.MkdirAll(filepath.Dir(path), 0o700) == nil {
		_ = f.Store.WriteFileAtomic(path, nil)
	}
}
