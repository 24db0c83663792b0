//go:build e2e

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// The workloads: files whose contents come from a fixed seed, the same in every run and on every machine.
const (
	manyFiles, manySize = 50_000, 3960 // 198 MB
	filesInDirectory    = 100
	bigFiles, bigSize   = 8, 128 << 20 // 1 GiB
)

// The same with -quick.
const (
	quickManyFiles = 2000
	quickBigSize   = 4 << 20
)

// writeSmall writes a context of two files.
func writeSmall(dir string) error {
	if err := writeFile(filepath.Join(dir, "requirements.txt"), []byte("flask==3.0\n")); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "app.py"), []byte("print('hello')\n"))
}

// writeMany writes n files of words, of so many bytes each, 100 to a directory.
func writeMany(dir string, n, size int) error {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	words := make([]string, 2000)
	for i := range words {
		for range 2 + random.IntN(8) {
			words[i] += string(rune('a' + random.IntN(26)))
		}
	}
	text := make([]byte, 0, size+16)
	for i := range n {
		text = text[:0]
		for len(text) < size {
			text = append(append(text, words[random.IntN(len(words))]...), ' ')
		}
		if err := writeFile(manyName(dir, i), text[:size]); err != nil {
			return err
		}
	}
	return nil
}

// manyName is the path of the file of that number of writeMany.
func manyName(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprint(i/filesInDirectory), fmt.Sprint(i%filesInDirectory))
}

// writeBig writes files that do not compress. It holds little in memory: what is measured of children that this process
// starts includes its own peak.
func writeBig(dir string, n int, size int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	random := noise{rand.NewPCG(2, uint64(size))}
	for i := range n {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(f, 1<<20)
		if _, err = io.CopyN(w, random, size); err == nil {
			err = w.Flush()
		}
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// noise reads as random bytes.
type noise struct{ source *rand.PCG }

func (n noise) Read(p []byte) (int, error) {
	p = p[:len(p)&^7]
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], n.source.Uint64())
	}
	return len(p), nil
}

// writeSparse writes a file that is one hole.
func writeSparse(name string, size int64) error {
	if err := writeFile(name, nil); err != nil {
		return err
	}
	return os.Truncate(name, size)
}

func writeFile(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}
