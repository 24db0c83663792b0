package runcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// writeCIDFile writes the container's ID to a new file.
func writeCIDFile(path, id string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", path)
	case err != nil:
		return fmt.Errorf("failed to create the container ID file: %w", err)
	}
	_, err = f.WriteString(id)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write container ID file: %w", err)
	}
	return nil
}

// checkCIDFile refuses a file that exists before anything is pulled.
func checkCIDFile(path string) error {
	if _, err := os.Lstat(path); path != "" && err == nil {
		return fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", path)
	}
	return nil
}
