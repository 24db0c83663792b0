package toc

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

var layerID = digest.FromString("a layer")

// record is an entry, its place, and the number of the entry that a hardlink names.
type record struct {
	entry view.Entry
	place Place
	link  int
}

func file(name string, size int64) view.Entry {
	return view.Entry{Path: name, Type: view.TypeRegular, Mode: 0o644, Size: size, Digest: digest.FromString(name)}
}

// everything is one of each kind of record.
func everything() []record {
	at := time.Unix(1700000000, 123456789).UTC()
	linked := file("d/f", 700)
	linked.Mode, linked.UID, linked.GID, linked.ModTime = 0o4755, 33, 1<<31, at
	linked.Xattrs = map[string]string{"user.b": "\x00", "user.a": "1"}
	link := linked
	link.Path, link.Hardlink = "d/l", "d/f"
	empty := file("empty", 0)
	empty.Digest = digest.FromString("")
	return []record{
		{entry: view.Entry{Path: "d", Type: view.TypeDir, Mode: 0o1777, ModTime: at}},
		{entry: linked, place: Place{Offset: 1024}},
		{entry: link, link: 1},
		{entry: empty},
		{entry: file("sparse", 1<<40), place: Place{Offset: 2048, Sparse: true}},
		{entry: file("last", 3), place: Place{Offset: 8192}},
		{entry: view.Entry{Path: "s", Type: view.TypeSymlink, Mode: 0o777, Linkname: "d/f"}},
		{entry: view.Entry{Path: "n", Type: view.TypeChar, Major: 1, Minor: 3}},
		{entry: view.Entry{Path: "b", Type: view.TypeBlock, Major: 8}},
		{entry: view.Entry{Path: "p", Type: view.TypeFifo}},
	}
}

func encode(enc *Encoder, records []record) ([]byte, Summary) {
	for i := range records {
		enc.Add(&records[i].entry, records[i].place, records[i].link)
	}
	return enc.Finish(layerID, 10240, true)
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, undigested := range []bool{false, true} {
		records := everything()
		data, sum := encode(&Encoder{Undigested: undigested}, records)
		got, err := Decode(data, layerID)
		if err != nil {
			t.Fatal(err)
		}
		want := &Table{Summary: sum}
		for _, r := range records {
			e := r.entry.Clone()
			if e.ModTime.IsZero() {
				e.ModTime = time.Unix(0, 0).UTC()
			}
			if undigested && e.Size > 0 {
				e.Digest = ""
			}
			want.Entries, want.Places = append(want.Entries, e), append(want.Places, r.place)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Summary{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("undigested %v (-want +got):\n%s", undigested, diff)
		}
		head, err := DecodeSummary(data[:SummarySize], layerID)
		if err != nil || head != sum {
			t.Errorf("undigested %v: the summary is %+v, %v, want %+v", undigested, head, err, sum)
		}
	}
}

// TestRecords checks that the entries that are decoded one by one are those of the Table.
func TestRecords(t *testing.T) {
	t.Parallel()
	records := everything()
	records = append(records, record{entry: view.Entry{Path: "d/m", Hardlink: "d/l"}, link: 2}, // a link to a link
		record{entry: view.Entry{Path: "i", Type: view.TypeDir, Opaque: true}, place: Place{Implied: true}})
	for _, undigested := range []bool{false, true} {
		data, sum := encode(&Encoder{Undigested: undigested}, records)
		table, err := Decode(bytes.Clone(data), layerID)
		if err != nil {
			t.Fatal(err)
		}
		r, err := DecodeRecords(data, layerID)
		if err != nil || r.Len() != len(records) || r.Summary != sum {
			t.Fatalf("%d records, %+v, %v", r.Len(), r.Summary, err)
		}
		for i, want := range table.Entries {
			if diff := cmp.Diff(want, r.Entry(i)); diff != "" {
				t.Errorf("undigested %v (-want +got):\n%s", undigested, diff)
			}
			e := view.Entry{Linkname: "of another entry"}
			var same view.Entry
			if table.Read(i, &same) != table.Places[i].Implied || !cmp.Equal(*want, same) || table.Entry(i) != want {
				t.Errorf("%s: the table has %+v", want.Path, same)
			}
			if implied := r.Read(i, &e); implied != table.Places[i].Implied || e.Digest != want.Digest && e.Digest != "" {
				t.Errorf("%s: implied %v, digest %q", want.Path, implied, e.Digest)
			}
			e.Digest = want.Digest
			if diff := cmp.Diff(want, &e); diff != "" {
				t.Errorf("read, undigested %v (-want +got):\n%s", undigested, diff)
			}
			got, ok := r.Sum(i)
			if sum, known := table.Sum(i); sum != got || known != ok {
				t.Errorf("%s: the table has the sum %x, %v", want.Path, sum, known)
			}
			if ok != (want.Size > 0 && !undigested) || ok && !bytes.Equal(got[:], RawDigest(want.Digest)) {
				t.Errorf("%s: sum %x, %v", want.Path, got, ok)
			}
		}
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	dir := record{entry: view.Entry{Path: "d", Type: view.TypeDir}}
	inside := record{entry: file("d/f", 5), place: Place{Offset: 512}}
	for name, tt := range map[string]struct {
		records []record
		want    Summary
	}{
		"nothing":               {nil, Summary{Plain: true}},
		"a directory first":     {[]record{dir, inside}, Summary{Count: 2, Size: 5, Plain: true}},
		"a directory last":      {[]record{inside, dir}, Summary{Count: 2, Size: 5}},
		"no directory":          {[]record{inside}, Summary{Count: 1, Size: 5}},
		"a directory by itself": {[]record{{entry: dir.entry, place: Place{Implied: true}}}, Summary{Count: 1}},
		"an opaque directory":   {[]record{{entry: view.Entry{Path: "d", Type: view.TypeDir, Opaque: true}}}, Summary{Count: 1}},
		"a removal":             {[]record{{entry: view.Entry{Path: "f", Type: view.TypeWhiteout}}}, Summary{Count: 1}},
		"a device":              {[]record{{entry: view.Entry{Path: "n", Type: view.TypeChar, Major: 1}}}, Summary{Count: 1, Plain: true, Devices: true}},
		"a symlink":             {[]record{{entry: view.Entry{Path: "s", Type: view.TypeSymlink, Linkname: "four"}}}, Summary{Count: 1, Size: 4, Plain: true}},
	} {
		_, got := encode(&Encoder{}, tt.records)
		tt.want.DiffID, tt.want.TarSize, tt.want.Canonical = layerID, 10240, true
		got.digests, got.bodySize, got.bodySum = 0, 0, 0
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

// TestDamageIsSeen: whichever byte is another, and wherever the file ends.
func TestDamageIsSeen(t *testing.T) {
	t.Parallel()
	data, _ := encode(&Encoder{}, everything())
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1
		if _, err := Decode(bad, layerID); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d: %v", i, err)
		}
		if _, err := Decode(bytes.Clone(data[:i]), layerID); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	if _, err := Decode(data, digest.FromString("another layer")); !errors.Is(err, ErrDamaged) {
		t.Errorf("of another layer: %v", err)
	}
}

// FuzzDecode gives arbitrary bytes for the body of a table of contents, with checksums that match, and for all of the file.
func FuzzDecode(f *testing.F) {
	data, _ := encode(&Encoder{}, everything())
	f.Add(data[headerSize:], len(everything()))
	f.Add([]byte{}, 0)
	f.Add([]byte{1, 0, 1, 'a', 0, 0, 0, 0, 0}, 1)
	f.Add(bytes.Repeat([]byte{0xff}, 200), 3)
	f.Fuzz(func(t *testing.T, body []byte, entries int) {
		sum := Summary{DiffID: layerID, Count: entries & 0xffff, bodySize: int64(len(body)), bodySum: checksum(body)}
		if table, err := Decode(append(sum.encode(), body...), layerID); err == nil && len(table.Entries) != len(table.Places) {
			t.Errorf("%d entries and %d places", len(table.Entries), len(table.Places))
		}
		if r, err := DecodeRecords(append(sum.encode(), body...), layerID); err == nil {
			for i := range r.Len() {
				r.Entry(i)
			}
		}
		_, _ = Decode(body, layerID)
	})
}
