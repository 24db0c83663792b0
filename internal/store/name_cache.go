package store

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// ListCached is List without reading files again that are in the state (inode, size, times) in which an earlier call read
// them. Whoever removes something looks at its names once more by List, under the lock.
func (n *Refs) ListCached() ([]Name, error) { return n.listCached(time.Now()) }

func (n *Refs) listCached(now time.Time) ([]Name, error) {
	known := n.remembered()
	next := make(map[string]rememberedName, len(known))
	var mu sync.Mutex
	read := 0
	list, err := n.list(func(path string) (Name, error) {
		file := filepath.Base(path)
		state, settled, err := stateOf(path, now)
		if err != nil {
			return Name{}, err
		}
		old, ok := known[file]
		if ok && old.state == state {
			mu.Lock()
			defer mu.Unlock()
			next[file] = old
			return old.name, nil
		}
		name, err := readName(path)
		if err == nil && settled && rememberable(name) {
			mu.Lock()
			defer mu.Unlock()
			next[file] = rememberedName{state, name}
			read++
		}
		return name, err
	})
	if read >= worthRemembering {
		// It only saves time: whoever may not write here goes without.
		_ = n.remember(next)
	}
	return list, err
}

// worthRemembering is how many names must have been read for the memory of them to be written again.
const worthRemembering = 32

// nameState tells a state of a name's file from the next.
type nameState struct{ ino, size, mtime, ctime uint64 }

type rememberedName struct {
	state nameState
	name  Name
}

// stateOf also says whether the state is old enough to be told from the next: clocks of filesystems tick.
func stateOf(path string, now time.Time) (nameState, bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nameState{}, false, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	s := nameState{st.Ino, uint64(st.Size), uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano())}
	return s, now.Sub(time.Unix(st.Ctim.Unix())) > 2*time.Second, nil
}

// rememberable reports whether a name's target is as plain as those are that mica writes.
func rememberable(name Name) bool {
	t := name.Target
	return len(t.URLs) == 0 && len(t.Annotations) == 0 && len(t.Data) == 0 && t.Platform == nil && t.ArtifactType == ""
}

// The memory of a folder of names begins with the name of its format, its version, and ends with a CRC-32C of all before.
const namesMagic = "mica-names-1\n\x00\x00\x00"

func (n *Refs) memoryPath() string { return n.s.Path("cache", "lists", filepath.Base(n.dir)) }

// remembered reads the memory, by the names of the files. What is missing or damaged counts as empty.
func (n *Refs) remembered() map[string]rememberedName {
	data, err := os.ReadFile(n.memoryPath())
	body := len(data) - 4
	if err != nil || body < len(namesMagic) || !bytes.HasPrefix(data, []byte(namesMagic)) ||
		binary.LittleEndian.Uint32(data[body:]) != namesSum(data[:body]) {
		return nil
	}
	return decodeNames(data[len(namesMagic):body])
}

func decodeNames(body []byte) map[string]rememberedName {
	d := &nameDecoder{rest: body}
	known := make(map[string]rememberedName, min(d.number(), uint64(len(body))))
	for len(d.rest) > 0 {
		file, r := d.text(), rememberedName{}
		r.state = nameState{d.number(), d.number(), d.number(), d.number()}
		r.name = Name{Ref: d.text(), Target: ocispec.Descriptor{MediaType: d.text(), Digest: d.digest(), Size: int64(d.number())}}
		for n := d.number(); n > 0 && !d.bad; n-- {
			r.name.Images = append(r.name.Images, d.digest())
		}
		r.name.Updated = time.Unix(0, int64(d.number())).UTC()
		if d.bad {
			return nil
		}
		known[file] = r
	}
	return known
}

// remember writes the memory.
func (n *Refs) remember(all map[string]rememberedName) error {
	b := append([]byte(nil), namesMagic...)
	number := func(list ...uint64) {
		for _, v := range list {
			b = binary.AppendUvarint(b, v)
		}
	}
	text := func(s string) {
		number(uint64(len(s)))
		b = append(b, s...)
	}
	number(uint64(len(all)))
	for file, r := range all {
		text(file)
		number(r.state.ino, r.state.size, r.state.mtime, r.state.ctime)
		text(r.name.Ref)
		text(r.name.Target.MediaType)
		text(string(r.name.Target.Digest))
		number(uint64(r.name.Target.Size), uint64(len(r.name.Images)))
		for _, id := range r.name.Images {
			text(string(id))
		}
		number(uint64(r.name.Updated.UnixNano()))
	}
	b = binary.LittleEndian.AppendUint32(b, namesSum(b))
	if err := os.MkdirAll(filepath.Dir(n.memoryPath()), 0o700); err != nil {
		return err
	}
	return n.s.WriteCacheFile(n.memoryPath(), b)
}

func namesSum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// nameDecoder takes a memory apart; bad is set by what is too short.
type nameDecoder struct {
	rest []byte
	bad  bool
}

func (d *nameDecoder) number() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *nameDecoder) text() string {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

func (d *nameDecoder) digest() digest.Digest { return digest.Digest(d.text()) }
