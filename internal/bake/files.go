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

// DefaultNames are the files that are read where none is named, in this order; those that are there are merged.
func DefaultNames() []string {
	return append(append([]string{}, composecli.DefaultFileNames...),
		"docker-bake.json", "docker-bake.hcl", "docker-bake.override.json", "docker-bake.override.hcl")
}

// ReadFiles reads files, "-" for stdin; without names those of DefaultNames that exist.
func ReadFiles(names []string, stdin io.Reader) ([]File, error) {
	asked := len(names) > 0
	if !asked {
		names = DefaultNames()
	}
	var files []File
	for _, name := range names {
		data, err := readFile(name, stdin)
		if !asked && errors.Is(err, os.ErrNotExist) {
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
	in, what := stdin, "stdin"
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in, what = f, name
	}
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	var at *os.PathError
	if errors.As(err, &at) {
		return nil, err // it names the file
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read %s: it is larger than %d bytes", what, maxFile)
	}
	return data, nil
}
