package dirsync

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

const (
	// small is the size of the largest files whose contents share a file.
	small = 64 << 10
	// maxIncoming is how many files a client may send at once. Clients send four.
	maxIncoming = 64
	// maxShared is how many shared files there are before those with less than smallShared bytes in use become one.
	maxShared   = 16
	smallShared = 4 << 20
	flushSize   = 256 << 10
)

// contents writes what arrives of files.
type contents struct {
	dir    string                 // "" until temp has made it
	temp   func() (string, error) // nil for a directory that is there
	number uint32                 // of the last file
	made   []uint32               // in this transfer, to be removed if it fails

	// shared has the contents of small files, buffer its last bytes, which are not written: all of them, if it is nil.
	shared *os.File
	id     uint32
	offset int64
	buffer []byte

	open map[*incoming]bool
	free []*buffers
}

// incoming is a file that the client sends.
type incoming struct {
	record int
	*buffers
	own    *os.File // of a large file
	id     uint32
	length int64
}

// buffers are what a file needs while it arrives.
type buffers struct {
	sum  hash.Hash
	data []byte
}

func newContents(opt Options, kept []record) *contents {
	c := &contents{dir: opt.Dir, temp: opt.Temp, open: map[*incoming]bool{}}
	for i := range kept {
		c.number = max(c.number, kept[i].content.file)
	}
	return c
}

// write takes a part of a file.
func (c *contents) write(f *incoming, data []byte) error {
	if err := c.begin(f); err != nil {
		return err
	}
	f.sum.Write(data)
	f.length += int64(len(data))
	if f.own == nil && len(f.data)+len(data) <= small {
		f.data = append(f.data, data...)
		return nil
	}
	if f.own == nil {
		f.id = c.next()
		var err error
		if f.own, err = c.create(f.id); err != nil {
			return err
		}
		if _, err := f.own.Write(f.data); err != nil {
			return err
		}
	}
	_, err := f.own.Write(data)
	return err
}

func (c *contents) begin(f *incoming) error {
	if f.buffers != nil {
		return nil
	}
	if len(c.open) == maxIncoming {
		return fmt.Errorf("the client sends more than %d files at once", maxIncoming)
	}
	c.open[f] = true
	if n := len(c.free); n > 0 {
		f.buffers, c.free = c.free[n-1], c.free[:n-1]
		f.sum.Reset()
		f.data = f.data[:0]
		return nil
	}
	f.buffers = &buffers{sum: sha256.New()}
	return nil
}

// end returns where the content of a complete file is.
func (c *contents) end(f *incoming) (content, error) {
	if err := c.begin(f); err != nil {
		return content{}, err
	}
	delete(c.open, f)
	c.free = append(c.free, f.buffers)
	at := content{file: f.id, length: f.length}
	f.sum.Sum(at.sum[:0])
	if f.own != nil {
		return at, f.own.Close()
	}
	return at, c.share(&at, f.data)
}

// share appends a small content to the shared file.
func (c *contents) share(at *content, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if c.id == 0 {
		c.id = c.next()
	}
	at.file, at.offset = c.id, c.offset
	c.offset += int64(len(data))
	if c.buffer = append(c.buffer, data...); len(c.buffer) < flushSize {
		return nil
	}
	return c.flush()
}

func (c *contents) flush() error {
	if c.shared == nil {
		var err error
		if c.shared, err = c.create(c.id); err != nil {
			return err
		}
	}
	_, err := c.shared.Write(c.buffer)
	c.buffer = c.buffer[:0]
	return err
}

func (c *contents) next() uint32 {
	c.number++
	return c.number
}

func (c *contents) create(number uint32) (*os.File, error) {
	if c.dir == "" {
		var err error
		if c.dir, err = c.temp(); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(contentPath(c.dir, number), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		c.made = append(c.made, number)
	}
	return f, err
}

func contentPath(dir string, number uint32) string {
	return filepath.Join(dir, strconv.FormatUint(uint64(number), 10))
}

// finish gathers what is left of shared files that are mostly unused, or small and many, and completes the shared file of this transfer.
func (c *contents) finish(files []record) error {
	gather, err := c.toGather(files)
	if err != nil {
		return err
	}
	for i := range files {
		if at := &files[i].content; gather[at.file] {
			if err := c.move(at); err != nil {
				return err
			}
		}
	}
	if len(c.buffer) > 0 {
		if err := c.flush(); err != nil {
			return err
		}
	}
	return c.complete()
}

// complete ends the shared file of this transfer, if it has been begun.
func (c *contents) complete() error {
	if c.shared == nil {
		return nil
	}
	return errors.Join(c.flush(), c.shared.Close())
}

// toGather returns the shared files that are not worth keeping.
func (c *contents) toGather(files []record) (map[uint32]bool, error) {
	used := map[uint32]int64{}
	for i := range files {
		if at := &files[i].content; at.file != 0 && at.length <= small && at.file != c.id {
			used[at.file] += at.length
		}
	}
	gather := map[uint32]bool{}
	for number, n := range used {
		st, err := os.Stat(contentPath(c.dir, number))
		if err != nil {
			return nil, err
		}
		gather[number] = n < st.Size()/2 || n < smallShared && len(used) > maxShared
	}
	return gather, nil
}

// move copies a small content to the shared file of this transfer.
func (c *contents) move(at *content) error {
	f, err := os.Open(contentPath(c.dir, at.file))
	if err != nil {
		return err
	}
	data := make([]byte, at.length)
	_, err = f.ReadAt(data, at.offset)
	if err := errors.Join(err, f.Close()); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return c.share(at, data)
}

// discard removes what a transfer that has failed has written.
func (c *contents) discard() error {
	var errs []error
	for f := range c.open {
		if f.own != nil {
			errs = append(errs, f.own.Close())
		}
	}
	if c.shared != nil {
		_ = c.shared.Close() // it may be closed already
	}
	for _, number := range c.made {
		errs = append(errs, os.Remove(contentPath(c.dir, number)))
	}
	return errors.Join(errs...)
}
