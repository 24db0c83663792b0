package sources

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/moby/buildkit/util/urlutil"
	"github.com/opencontainers/go-digest"
)

// Wanted is what is asked of a source beside its identity.
type Wanted struct {
	Objects  bool      // of the commit of a repository
	Checksum *Checksum // of a file; nil for none
}

// Checksum is a digest of a file's content that some bytes follow: those that a signature signs with it.
type Checksum struct {
	Algorithm digest.Algorithm
	Suffix    []byte
}

// maxSuffix bounds what follows the content of a file in a checksum, in bytes.
const maxSuffix = 4 << 10

// Details are what a source is now.
type Details struct {
	Identity
	Objects  Objects
	Checksum digest.Digest // "" if none was wanted
}

// Identify finds out what a source is now. A file that was downloaded for it is there for the sources of the same build.
func (f *Fetcher) Identify(ctx context.Context, identifier string, attrs map[string]string, want Wanted) (d *Details, err error) {
	src, err := f.Open(identifier, attrs)
	if err != nil {
		return nil, err
	}
	defer func() {
		if s, ok := src.(*file); ok && err == nil {
			s.kept = false
		}
		err = errors.Join(err, src.Close())
	}()
	if _, err := src.Pin(ctx); err != nil {
		return nil, err
	}
	d = &Details{Identity: src.Identity()}
	switch s := src.(type) {
	case *repository:
		if !want.Objects {
			return d, nil
		}
		if d.Objects, err = s.Objects(ctx); err != nil {
			return nil, err
		}
		d.Peeled = d.Objects.Peeled
	case *file:
		if want.Checksum == nil {
			return d, nil
		}
		if d.Checksum, err = s.hash(ctx, want.Checksum); err != nil {
			return nil, s.fail(err)
		}
	}
	return d, nil
}

// hash returns a checksum of the content that was pinned.
func (s *file) hash(ctx context.Context, c *Checksum) (digest.Digest, error) {
	switch {
	case !c.Algorithm.Available():
		return "", fmt.Errorf("unsupported checksum algorithm %q", c.Algorithm)
	case len(c.Suffix) > maxSuffix:
		return "", fmt.Errorf("the checksum's suffix exceeds max size %d", maxSuffix)
	}
	digester := c.Algorithm.Digester()
	err := s.read(ctx, func(content io.Reader) error {
		_, err := io.Copy(digester.Hash(), content)
		return err
	})
	if err != nil {
		return "", err
	}
	_, err = digester.Hash().Write(c.Suffix)
	return digester.Digest(), err
}

// read calls f with the content that was pinned, which the Fetcher keeps if it has to be downloaded.
func (s *file) read(ctx context.Context, f func(content io.Reader) error) (err error) {
	temp := s.f.take(s.key(), s.got.Digest)
	if temp == nil {
		pinned := s.got
		if err := s.download(ctx); err != nil {
			return err
		}
		if s.got.Digest != pinned.Digest {
			return fmt.Errorf("digest mismatch for %s: %s (expected: %s)", urlutil.RedactCredentials(s.url), s.got.Digest, pinned.Digest)
		}
		temp, s.temp, s.got = s.temp, nil, pinned
	}
	defer func() {
		s.f.keep(s.key(), &download{s.got.Digest, temp})
		s.kept = true
	}()
	in, err := os.Open(contentOf(temp))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return f(in)
}
