package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// S3 is Versity's gateway, a service of S3's protocol that keeps objects as files.
type S3 struct {
	URL string
	// KeyID and Secret sign requests, which the gateway verifies.
	KeyID, Secret string
	dir           string
	*server
}

// StartS3 starts a service on loopback that keeps its files in dir.
func StartS3(dir string) (*S3, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	s := &S3{URL: "http://" + addr, KeyID: "keyid", Secret: "verysecretkey", dir: filepath.Join(dir, "s3")}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(Top(), "bin", "peers", "versitygw"), "--port", addr, "posix", s.dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.KeyID, "ROOT_SECRET_KEY="+s.Secret)
	s.server, err = startCommand(dir, cmd, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return s, err
}

// Bucket makes a bucket, and returns the directory with its objects.
func (s *S3) Bucket(name string) (string, error) {
	dir := filepath.Join(s.dir, name)
	return dir, os.Mkdir(dir, 0o755)
}

// Stop ends the service.
func (s *S3) Stop() error {
	if s == nil {
		return errors.New("it was not started")
	}
	return s.stop()
}
