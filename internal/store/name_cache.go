package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/table"
)

// ListCached is List without reading files again that are in the state (inode, size, times) in which an earlier call read
// them. A caller that removes something lists the names once more by List, under the lock.
func (n *Refs) ListCached() ([]Name, error) { return n.listCached(time.Now()) }

func (n *Refs) listCached(now time.Time) (_ []Name, err error) {
	cache := n.openCache()
	defer func() { err = errors.Join(err, cache.Close()) }()
	var read atomic.Int64
	list, err := n.list(func(path string) (Name, error) {
		key, settled, err := nameKey(path, now)
		if err != nil {
			return Name{}, err
		}
		if data, ok := cache.Get(key); ok {
			if name, ok := decodeName(data); ok {
				return name, nil
			}
		}
		name, err := readName(path)
		if err == nil && settled && cacheable(name) {
			cache.Put(key, encodeName(name))
			read.Add(1)
		}
		return name, err
	})
	if read.Load() >= worthCaching && os.MkdirAll(filepath.Dir(n.cachePath()), 0o700) == nil {
		saveNames(cache, len(list))
	}
	return list, err
}

// worthCaching is how many names must have been read for the cache to be written again.
const worthCaching = 32

// namesFormat is the format of the cache of a directory of names: what its files say, by nameKey.
var namesFormat = table.Format{Magic: "mica-names-2\n\x00\x00\x00", KeySize: sha256.Size}

func (n *Refs) cachePath() string { return n.s.Path("cache", "lists", filepath.Base(n.dir)) }

func (n *Refs) openCache() *table.Table { return table.Open(n.cachePath(), namesFormat) }

// saveNames writes the cache, with as many records of earlier states as there are names at most. It only saves time: an error,
// for example of a store that is read-only, changes nothing, and a process that is slow to save is not waited for.
func saveNames(cache *table.Table, names int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = cache.Save(ctx, 2*names)
}

// nameKey is a hash of the name of a file and of its state. settled is whether the state is old enough to be distinguished
// from the next: clocks of filesystems tick, some only every two seconds.
func nameKey(path string, now time.Time) (key []byte, settled bool, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, false, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	b := make([]byte, 0, 320)
	for _, v := range []uint64{st.Ino, uint64(st.Size), uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano())} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	sum := sha256.Sum256(append(b, filepath.Base(path)...))
	return sum[:], now.Sub(time.Unix(st.Ctim.Unix())) > 2*time.Second, nil
}

// cacheable reports whether a name's target has only the fields of those that mica writes.
func cacheable(name Name) bool {
	t := name.Target
	return len(t.URLs) == 0 && len(t.Annotations) == 0 && len(t.Data) == 0 && t.Platform == nil && t.ArtifactType == ""
}

// encodeName writes a name as numbers and texts: the numbers are uvarints, the texts have their length before them.
func encodeName(name Name) []byte {
	b := make([]byte, 0, 256)
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	text(name.Ref)
	text(name.Target.MediaType)
	text(string(name.Target.Digest))
	b = binary.AppendUvarint(b, uint64(name.Target.Size))
	b = binary.AppendUvarint(b, uint64(name.Updated.UnixNano()))
	for _, id := range name.Images {
		text(string(id))
	}
	return b
}

// decodeName reports false for what encodeName does not write.
func decodeName(data []byte) (Name, bool) {
	d := &nameDecoder{rest: data}
	name := Name{Ref: d.text(), Target: ocispec.Descriptor{MediaType: d.text(), Digest: d.digest(), Size: int64(d.number())}}
	name.Updated = time.Unix(0, int64(d.number())).UTC()
	for len(d.rest) > 0 {
		name.Images = append(name.Images, d.digest())
	}
	return name, !d.bad
}

// nameDecoder takes an encoded name apart; bad is set by one that is too short.
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
