package builder

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/store"
)

// SpoolArchive makes a context of an archive, which it writes to a temporary directory of the store, since a build reads it more than
// once. cleanup removes it.
func SpoolArchive(s *store.Store, in io.Reader, dockerfile string) (_ Context, cleanup func() error, err error) {
	tmp, err := s.TempDir("context")
	if err != nil {
		return nil, nil, err
	}
	if err := spool(SpoolName(tmp.Path), in); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read build context: %w", err), tmp.Remove())
	}
	return ArchiveContext{Dir: tmp.Path, Dockerfile: dockerfile}, tmp.Remove, nil
}

func spool(path string, in io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	limit, err := quota.New()
	if err == nil {
		_, err = io.Copy(f, limit.Receiver(in))
	}
	return errors.Join(err, f.Close())
}
