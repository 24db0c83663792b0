package toc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// TestFormatOfThisVersion: a store has tables of contents for years. A change of their format needs another version.
func TestFormatOfThisVersion(t *testing.T) {
	t.Parallel()
	for undigested, want := range map[bool]digest.Digest{
		false: "sha256:9d575f06788019fdb659c7b302ad6db110098426792f04c3ba295add464ac2e1",
		true:  "sha256:2fd574bd367158342872427dd687e74704f69d2a8d918cb8af5b7f047574b058",
	} {
		data, _ := encode(&Encoder{Undigested: undigested}, everything())
		if got := digest.FromBytes(data); got != want {
			t.Errorf("undigested %t: %s", undigested, got)
		}
	}
}

// craft is a file with any body, whose checksums are right.
func craft(sum Summary, body []byte) []byte {
	sum.DiffID, sum.bodySize, sum.bodySum = layerID, int64(len(body)), checksum(body)
	return append(sum.encode(), body...)
}

// body joins bytes, texts with their lengths, and numbers.
func body(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case view.Type:
			b = append(b, byte(p))
		case string:
			b = appendString(b, p)
		case int:
			b = binary.AppendUvarint(b, uint64(p))
		case uint64:
			b = binary.AppendUvarint(b, p)
		case int64:
			b = binary.AppendVarint(b, p)
		case []byte:
			b = append(b, p...)
		default:
			panic(fmt.Sprintf("%T", p))
		}
	}
	return b
}

// TestCraftedTables: checksums that are right do not make a table right.
func TestCraftedTables(t *testing.T) {
	t.Parallel()
	sum := make([]byte, 32)
	dir := body(view.TypeDir, 0, "d", 0o755, 0, 0, int64(0))
	file := func(size, offset uint64) []byte {
		return body(view.TypeRegular, 0, "f", 0o644, 0, 0, int64(0), size, sum, offset)
	}
	link := func(to int) []byte { return body(view.TypeRegular, recHardlink, "l", to) }
	for name, c := range map[string]struct {
		sum  Summary
		body []byte
		ok   bool
	}{
		"nothing":             {Summary{}, nil, true},
		"directory":           {Summary{Count: 1}, dir, true},
		"file":                {Summary{Count: 1, digests: 1}, file(5, 512), true},
		"hard link":           {Summary{Count: 2, digests: 1}, body(file(5, 512), link(0)), true},
		"too few entries":     {Summary{Count: 2}, dir, false},
		"too many bytes":      {Summary{Count: 1}, body(dir, 0), false},
		"huge count":          {Summary{Count: math.MaxUint32}, dir, false},
		"link to itself":      {Summary{Count: 1}, link(0), false},
		"link to a later one": {Summary{Count: 2, digests: 1}, body(link(1), file(5, 512)), false},
		"unknown type":        {Summary{Count: 1}, body(view.TypeWhiteout+1, 0, "d", 0, 0, 0, int64(0)), false},
		"socket":              {Summary{Count: 1}, body(view.TypeSocket, 0, "d", 0, 0, 0, int64(0)), false},
		"no type":             {Summary{Count: 1}, body(view.Type(0), 0, "d", 0, 0, 0, int64(0)), false},
		"long name":           {Summary{Count: 1}, body(view.TypeDir, 0, 1<<40, 0, 0, 0), false},
		"name to the end":     {Summary{Count: 1}, body(view.TypeDir, 0, "0123456789"), false},
		"negative size":       {Summary{Count: 1, digests: 1}, file(1<<63, 512), false},
		"size and offset":     {Summary{Count: 1, digests: 1}, file(1<<62, 1<<62), false},
		"negative offset":     {Summary{Count: 2, digests: 2}, body(file(1<<62, 512), file(5, math.MaxUint64-1<<62-1000)), false},
		"undeclared digest":   {Summary{Count: 1}, file(5, 512), false},
		"too many digests":    {Summary{Count: 1, digests: 2}, file(5, 512), false},
		"short digest":        {Summary{Count: 1, digests: 1}, body(view.TypeRegular, 0, "f", 0, 0, 0, int64(0), 5, sum[:31]), false},
		"many attributes":     {Summary{Count: 1}, body(view.TypeDir, recXattrs, "d", 0, 0, 0, int64(0), 1<<40), false},
		"attribute alone":     {Summary{Count: 1}, body(view.TypeDir, recXattrs, "d", 0, 0, 0, int64(0), 1, "user.a"), false},
		"endless number":      {Summary{Count: 1}, body(view.TypeDir, 0, "d", bytes.Repeat([]byte{0x80}, 20)), false},
	} {
		table, err := Decode(craft(c.sum, c.body), layerID)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, %v", name, table, err)
		}
		records, err := DecodeRecords(craft(c.sum, c.body), layerID)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: records %v, %v", name, records, err)
		}
	}
}

func TestCraftedSummaries(t *testing.T) {
	t.Parallel()
	reseal := func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[headerSize-4:], checksum(b[:headerSize-4]))
		return b
	}
	for name, change := range map[string]func(b []byte){
		"version 0":        func(b []byte) { b[len(magic)] = 0 },
		"version 3":        func(b []byte) { b[len(magic)] = 3 },
		"unknown flag":     func(b []byte) { b[len(magic)+1] = 8 },
		"another magic":    func(b []byte) { b[0] = 'x' },
		"negative tar":     func(b []byte) { b[len(magic)+1+12+7] = 0x80 },
		"negative size":    func(b []byte) { b[len(magic)+1+20+7] = 0x80 },
		"negative body":    func(b []byte) { b[len(magic)+1+28+7] = 0x80 },
		"of another layer": func(b []byte) { b[len(magic)+1+36]++ },
	} {
		b := craft(Summary{TarSize: 1024}, nil)
		if _, err := DecodeSummary(b, layerID); err != nil {
			t.Fatal(err)
		}
		change(b)
		if s, err := DecodeSummary(reseal(b), layerID); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	for _, want := range []Summary{
		{}, {Canonical: true}, {Plain: true}, {Devices: true}, {Undigested: true}, {TarSize: 1 << 50, Size: 1 << 49, Count: 1<<32 - 1},
		{Canonical: true, Plain: true, Devices: true, Undigested: true},
	} {
		want.DiffID = layerID
		if got, err := DecodeSummary(want.encode(), layerID); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
}

// TestLargeTables: entries and digests do not mix, however many there are.
func TestLargeTables(t *testing.T) {
	t.Parallel()
	var records []record
	offset := int64(0)
	for i := range 20_000 {
		e := file(fmt.Sprintf("directory/%05d", i), int64(i))
		if i == 0 {
			e.Digest = emptyDigest
		}
		e.UID, e.GID, e.Mode = i, i*3, uint32(i%0o10000)
		records = append(records, record{entry: e, place: Place{Offset: offset + 512}})
		offset += 512 + (e.Size+511)/512*512
	}
	data, _ := encode(&Encoder{}, records)
	got, err := Decode(data, layerID)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		e, want := got.Entries[i], r.entry
		if e.Path != want.Path || e.Digest != want.Digest || e.Size != want.Size || e.UID != want.UID || e.GID != want.GID || e.Mode != want.Mode {
			t.Fatalf("entry %d is %+v, want %+v", i, e, want)
		}
		if i > 0 && got.Places[i] != r.place {
			t.Fatalf("entry %d is at %+v, want %+v", i, got.Places[i], r.place)
		}
	}
}

// TestAttributesAreSorted: the order of a map is not in the file.
func TestAttributesAreSorted(t *testing.T) {
	t.Parallel()
	attrs := map[string]string{}
	for i := range 50 {
		attrs[fmt.Sprintf("user.%d", i)] = fmt.Sprint(i)
	}
	records := []record{{entry: view.Entry{Path: "d", Type: view.TypeDir, Xattrs: attrs}}}
	first, _ := encode(&Encoder{}, records)
	for range 10 {
		if again, _ := encode(&Encoder{}, records); !bytes.Equal(first, again) {
			t.Fatal("the same entries give another file")
		}
	}
	got, err := Decode(first, layerID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(attrs, got.Entries[0].Xattrs); diff != "" {
		t.Error(diff)
	}
}

func TestRawDigest(t *testing.T) {
	t.Parallel()
	zeros := make([]byte, 32)
	if got := RawDigest(layerID); digest.NewDigestFromBytes(digest.SHA256, got) != layerID {
		t.Errorf("%x", got)
	}
	for _, d := range []digest.Digest{"", "sha256:", "sha256:abc", "sha256:zz", digest.Digest("sha512:" + layerID.Encoded() + layerID.Encoded())} {
		if got := RawDigest(d); !bytes.Equal(got, zeros) {
			t.Errorf("%q: %x", d, got)
		}
	}
	for kind, want := range map[view.Type]bool{view.TypeChar: true, view.TypeBlock: true, view.TypeFifo: false, view.TypeWhiteout: false} {
		if got := IsDevice(&view.Entry{Type: kind}); got != want {
			t.Errorf("type %d: %t", kind, got)
		}
	}
}
