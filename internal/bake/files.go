package bake

import (
	"errors"
	"fmt"
	"io"
	"os"

	composecli "github.com/compose-spec/compose-go/v2/cli"
)

// File is a file that describes targets.
type File struct {
	Name string
	Data []byte
}

// maxFile bounds a file that is read.
const maxFile = 16 << 20

// DefaultNames are the files that are read if none is named. Those that exist are merged in this order.
func DefaultNames() []string {
	return append(append([]string{}, composecli.DefaultFileNames...),
		"docker-bake.json", "docker-bake.hcl", "docker-bake.override.json", "docker-bake.override.hcl")
}

// ReadFiles reads files, "-" for stdin; without names those of DefaultNames that exist.
func ReadFiles(names []string, stdin io.Reader) ([]File, error) {
	named := len(names) > 0
	if !named {
		names = DefaultNames()
	}
	var files []File
	for _, name := range names {
		data, err := readFile(name, stdin)
		if !named && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(data) > 0 {
			files = append(files, File{name, data})
		}
	}
	if len(files) == 0 {
		return nil, errors.New("couldn't find a bake definition")
	}
	return files, nil
}

func readFile(name string, stdin io.Reader) ([]byte, error) {
	in, source := stdin, "stdin"
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in, source = f, name
	}
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	var at *os.PathError
	if errors.As(err, &at) {
		return nil, err // it names the file
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", source, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read %s: larger than %d bytes", source, maxFile)
	}
	return data, nil
}
