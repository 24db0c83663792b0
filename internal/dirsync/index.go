package dirsync

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// The index is its magic, the ID of the start of the host in which it was written, one record a file, and a CRC-32C of all that.
const (
	indexName  = "index"
	indexMagic = "mica-received-1\n"
	maxBoot    = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// boot is the ID of this start of the host. Contents are not synced to disk: after another one they are compared with their digests.
func boot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(id) > maxBoot {
		return ""
	}
	return string(bytes.TrimSpace(id))
}

// load returns what is kept, nothing if that is not complete, and removes what belongs to nothing.
func load(dir string) ([]record, error) {
	raw, err := os.ReadFile(filepath.Join(dir, indexName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what was received before: %w", err)
	}
	files, from := decodeIndex(raw)
	if !present(dir, files) || from != boot() && !intact(dir, files) {
		files = nil
	}
	if err := removeUnused(dir, files); err != nil {
		return nil, err
	}
	return files, nil
}

// present reports whether the contents of files are there.
func present(dir string, files []record) bool {
	sizes := map[uint32]int64{0: 0}
	for i := range files {
		at := &files[i].content
		size, ok := sizes[at.file]
		if !ok {
			st, err := os.Stat(contentPath(dir, at.file))
			if err != nil {
				return false
			}
			size = st.Size()
			sizes[at.file] = size
		}
		if at.offset < 0 || at.length < 0 || at.length > size || at.offset > size-at.length {
			return false
		}
	}
	return true
}

// intact reports whether the contents of files are those that were received.
func intact(dir string, files []record) bool {
	open := newOpener(dir)
	defer open.close()
	for i := range files {
		at := files[i].content
		if at.file == 0 {
			continue
		}
		f, err := open.file(at.file)
		if err != nil {
			return false
		}
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(f, at.offset, at.length)); err != nil || [32]byte(h.Sum(nil)) != at.sum {
			return false
		}
	}
	return true
}

// removeUnused removes what files have no content in.
func removeUnused(dir string, files []record) error {
	used := map[string]bool{}
	if files != nil {
		used[indexName] = true
	}
	for i, last := 0, uint32(0); i < len(files); i++ {
		if n := files[i].content.file; n != last {
			used[strconv.FormatUint(uint64(n), 10)] = true
			last = n
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !used[e.Name()] {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeIndex(dir string, files []record) error {
	raw := encodeIndex(files, boot())
	name := filepath.Join(dir, indexName)
	if err := os.WriteFile(name+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

func encodeIndex(files []record, boot string) []byte {
	b := make([]byte, 0, len(files)*100+100)
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, indexMagic...)
	text(boot)
	for i := range files {
		f := &files[i]
		text(f.path)
		text(f.link)
		b = binary.AppendUvarint(b, uint64(f.mode))
		for _, n := range []int64{f.size, f.mtime, f.major, f.minor} {
			b = binary.AppendVarint(b, n)
		}
		if f.regular() {
			at := &f.content
			b = binary.AppendUvarint(b, uint64(at.file))
			b = binary.AppendVarint(b, at.offset)
			b = binary.AppendVarint(b, at.length)
			b = append(b, at.sum[:]...)
		}
	}
	return sealed(b)
}

// sealed appends a checksum.
func sealed(b []byte) []byte { return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)) }

// decodeIndex returns the files of an index, and the start of the host that it is from; no files if the index is damaged.
func decodeIndex(raw []byte) ([]record, string) {
	end := len(raw) - crc32.Size
	if end < len(indexMagic) || string(raw[:len(indexMagic)]) != indexMagic || crc32.Checksum(raw[:end], castagnoli) != binary.BigEndian.Uint32(raw[end:]) {
		return nil, ""
	}
	d := decoder{text: string(raw[len(indexMagic):end])}
	from := d.string()
	files := []record{}
	for len(d.text) > 0 {
		f := record{path: d.string(), link: d.string(), mode: fs.FileMode(d.uint())}
		for _, n := range []*int64{&f.size, &f.mtime, &f.major, &f.minor} {
			*n = d.int()
		}
		if f.regular() {
			f.content = content{file: uint32(d.uint()), offset: d.int(), length: d.int()}
			copy(f.content.sum[:], d.take(len(f.content.sum)))
		}
		if d.damaged {
			return nil, ""
		}
		files = append(files, f)
	}
	return files, from
}

// decoder takes values from the front of a text.
type decoder struct {
	text    string
	damaged bool
}

func (d *decoder) take(n int) string {
	if n < 0 || n > len(d.text) {
		d.damaged, d.text = true, ""
		return ""
	}
	s := d.text[:n]
	d.text = d.text[n:]
	return s
}

func (d *decoder) string() string { return d.take(int(d.uint())) }

func (d *decoder) uint() uint64 {
	var n uint64
	for i := 0; i < len(d.text) && i < binary.MaxVarintLen64; i++ {
		b := d.text[i]
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			d.text = d.text[i+1:]
			return n
		}
	}
	d.damaged, d.text = true, ""
	return 0
}

func (d *decoder) int() int64 {
	n := d.uint()
	return int64(n>>1) ^ -int64(n&1)
}
