package ocilayout

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// directory is a layout in a directory. It never opens a file outside of the directory (os.Root).
type directory struct{ root *os.Root }

func openDirectory(path string) (*directory, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, reason(err)
	}
	return &directory{root}, nil
}

func (f *directory) open(name string) (io.ReadCloser, int64, error) {
	// Do not wait for a writer of a FIFO.
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

func (f *directory) Close() error { return f.root.Close() }
