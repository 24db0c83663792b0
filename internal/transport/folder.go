package transport

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// folder is a layout in a folder. Neither names nor symlinks in it lead outside (os.Root).
type folder struct{ root *os.Root }

func openFolder(path string) (*folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, reason(err)
	}
	return &folder{root}, nil
}

func (f *folder) open(name string) (io.ReadCloser, int64, error) {
	// A FIFO must not make the opening wait for a writer.
	file, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, reason(err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err != nil {
		_ = file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

func (f *folder) Close() error { return f.root.Close() }
