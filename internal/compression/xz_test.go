package compression

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os/exec"
	"strings"
	"testing"
)

// xzBlockHeader is where the header of the first block stands, xzDictionary the byte in it that says how large the dictionary
// is: 40 for 4 GiB.
const (
	xzBlockHeader = 12
	xzDictionary  = 16
)

// withDictionary changes a stream's first block.
func withDictionary(stream []byte, code byte) []byte {
	stream = bytes.Clone(stream)
	stream[xzDictionary] = code
	header := stream[xzBlockHeader : xzBlockHeader+12]
	binary.LittleEndian.PutUint32(header[8:], crc32.ChecksumIEEE(header[:8]))
	return stream
}

func TestXZDictionaries(t *testing.T) {
	for code, ok := range map[byte]bool{0: true, 22: true, 30: true, 31: false, 36: false, 40: false} {
		got, _, err := decompress(bytes.NewReader(withDictionary(xzHello, code)))
		switch {
		case ok && (err != nil || got != hello):
			t.Errorf("%d: %q, %v", code, got, err)
		case !ok && (err == nil || !strings.Contains(err.Error(), "dictionary of")):
			t.Errorf("%d: read as %q, %v", code, got, err)
		}
	}
	// In a later stream, and behind padding.
	if _, _, err := decompress(bytes.NewReader(join(xzHello, make([]byte, 8), withDictionary(xzHello, 40)))); err == nil || !strings.Contains(err.Error(), "dictionary of 4095 MiB") {
		t.Errorf("second stream: %v", err)
	}
}

// TestXZManyBlocks: each block of a byte would have a dictionary of 128 MiB of its own.
func TestXZManyBlocks(t *testing.T) {
	blocks := newXZBlocks()
	stream := withDictionary(xzHello, 30)
	var err error
	n := 0
	for ; n < 1000 && err == nil; n++ {
		err = blocks.feed(stream)
	}
	if err == nil || n < 100 || n > 200 {
		t.Errorf("%d blocks: %v", n, err)
	}
}

// TestXZOfTheHost reads what xz(1) writes in other shapes, and follows it to the end.
func TestXZOfTheHost(t *testing.T) {
	plain := strings.Repeat("some text that compresses well, ", 20_000)
	for _, args := range [][]string{
		{"-9"}, {"-0"}, {"--block-size=100000"}, {"-T2", "--block-size=200000"}, {"--check=none"}, {"--check=crc32"}, {"--check=sha256"}, {"--lzma2=dict=4KiB"},
	} {
		cmd := exec.Command("xz", append(args, "-c")...)
		cmd.Stdin = strings.NewReader(plain)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := decompress(bytes.NewReader(join(packed, packed))); err != nil || got != plain+plain {
			t.Errorf("%v: %d bytes, %v", args, len(got), err)
		}
		blocks := newXZBlocks()
		if err := blocks.feed(join(packed, packed)); err != nil || blocks.then == nil || blocks.out != 2*int64(len(plain)) {
			t.Errorf("%v: followed for %d bytes: %v", args, blocks.out, err)
		}
	}
}
