package sources

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/solver/pb"
	srctypes "github.com/moby/buildkit/source/types"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/quota"
)

// BuildSession is the name by which compilers in this process call the session of their build, in whichever build they run: the digests of
// their operations are the same in all.
const BuildSession = "mica"

// SessionOf is the session that an attribute of a source names, "" for that of the build.
func SessionOf(attr string) string {
	if attr == BuildSession {
		return ""
	}
	return attr
}

// BlobRef names a blob of a repository, or of a store of the client.
type BlobRef struct {
	Name  string // of the repository; for people if it is in a store
	Store string // the ID of the client's store, "" for a repository
	// Session is that of the client with the store, "" for that of the build.
	Session string
	Digest  digest.Digest
}

// ParseBlobRef reads the identifier of a blob: docker-image+blob://NAME@DIGEST, or oci-layout+blob://NAME@DIGEST, whose store is named by an
// attribute, or else by NAME.
func ParseBlobRef(identifier string, attrs map[string]string) (BlobRef, error) {
	scheme, rest, _ := strings.Cut(identifier, "://")
	name, sum, ok := strings.Cut(rest, "@")
	ref := BlobRef{Name: name, Digest: digest.Digest(sum)}
	switch {
	case !ok || name == "":
		return ref, fmt.Errorf("invalid blob %s: it has no digest", identifier)
	case ref.Digest.Validate() != nil || ref.Digest.Algorithm() != digest.SHA256:
		return ref, fmt.Errorf("invalid blob %s: its digest is not a sha256", identifier)
	}
	switch scheme {
	case srctypes.DockerImageBlobScheme:
	case srctypes.OCIBlobScheme:
		ref.Store, ref.Session = cmp.Or(attrs[pb.AttrOCILayoutStoreID], name), SessionOf(attrs[pb.AttrOCILayoutSessionID])
	default:
		return ref, fmt.Errorf("invalid blob %s: its scheme is not %s or %s", identifier, srctypes.DockerImageBlobScheme, srctypes.OCIBlobScheme)
	}
	return ref, nil
}

// blob is the source of a file that is a blob.
type blob struct {
	f      *Fetcher
	ref    BlobRef
	file   placed
	opened *openedBlob // by Ask; nil if nobody has asked
}

// openedBlob is a blob that is read, or the error of opening it.
type openedBlob struct {
	io.ReadCloser
	err error
}

// placed is how a file is written: its name, "" for that of its content, and its metadata.
type placed struct {
	name     string
	perm     os.FileMode
	uid, gid int
}

func (f *Fetcher) newBlob(identifier string, attrs map[string]string) (*blob, error) {
	ref, err := ParseBlobRef(identifier, attrs)
	if err != nil {
		return nil, err
	}
	b := &blob{f: f, ref: ref, file: placed{name: ref.Digest.Encoded(), perm: 0o600}}
	if v := attrs[pb.AttrHTTPFilename]; v != "" {
		b.file.name = safeName(v)
	}
	perm := int(b.file.perm)
	for attr, to := range map[string]*int{pb.AttrHTTPPerm: &perm, pb.AttrHTTPUID: &b.file.uid, pb.AttrHTTPGID: &b.file.gid} {
		if v := attrs[attr]; v != "" {
			n, err := strconv.ParseInt(v, 0, 32)
			if err != nil {
				return nil, fmt.Errorf("%s: attribute %s: %w", identifier, attr, err)
			}
			*to = int(n)
		}
	}
	b.file.perm = os.FileMode(perm)
	return b, nil
}

// Pin asks nobody: the build names the content.
func (b *blob) Pin(context.Context) (string, error) {
	return key("blob", b.ref.Digest.String(), b.file.name, fmt.Sprintf("%o %d %d", b.file.perm, b.file.uid, b.file.gid)), nil
}

func (b *blob) Identity() Identity {
	return Identity{Name: b.file.name, Digest: b.ref.Digest, Blob: true}
}

// Asks reports whether the blob has to be opened.
func (b *blob) Asks() bool { return b.opened == nil }

// Ask opens the blob: the client may be asked for credentials, or for the blob.
func (b *blob) Ask(ctx context.Context) { b.opened = b.f.openBlob(ctx, b.ref) }

// Close ends the reading of a blob that Ask has opened.
func (b *blob) Close() error {
	if b.opened == nil || b.opened.ReadCloser == nil {
		return nil
	}
	return b.opened.Close()
}

// Fetch writes the blob to a file.
func (b *blob) Fetch(ctx context.Context, dir string) error {
	path := filepath.Join(dir, b.file.name)
	if b.opened == nil {
		b.Ask(ctx)
	}
	if err := b.opened.write(b.ref, path); err != nil {
		return err
	}
	return b.file.apply(path, time.Unix(0, 0))
}

// apply gives a file its metadata.
func (p placed) apply(path string, at time.Time) error {
	err := os.Chmod(path, p.perm)
	if err == nil && (p.uid != 0 || p.gid != 0) {
		err = os.Lchown(path, p.uid, p.gid)
	}
	if err == nil {
		err = os.Chtimes(path, at, at)
	}
	return err
}

// writeBlob writes a blob to a file, and verifies it.
func (f *Fetcher) writeBlob(ctx context.Context, ref BlobRef, path string) (err error) {
	opened := f.openBlob(ctx, ref)
	if opened.ReadCloser != nil {
		defer func() { err = errors.Join(err, opened.Close()) }()
	}
	return opened.write(ref, path)
}

func (f *Fetcher) openBlob(ctx context.Context, ref BlobRef) *openedBlob {
	if f.Blob == nil {
		return &openedBlob{err: errors.New("this build has no blobs")}
	}
	r, err := f.Blob(ctx, ref)
	if err != nil {
		return &openedBlob{err: err}
	}
	return &openedBlob{ReadCloser: r}
}

// write writes the blob to a file, and verifies it.
func (b *openedBlob) write(ref BlobRef, path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("blob %s@%s: %w", ref.Name, ref.Digest, err)
		}
	}()
	if b.err != nil {
		return b.err
	}
	limit, err := quota.New()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	check := ref.Digest.Verifier()
	_, err = io.Copy(io.MultiWriter(out, check), limit.Receiver(b))
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	if !check.Verified() {
		return errors.New("it has other content")
	}
	return nil
}
