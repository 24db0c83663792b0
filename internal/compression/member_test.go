package compression

import (
	"bufio"
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"testing"
	"testing/iotest"
)

// words are n bytes that compress to less than half.
func words(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	var known [4096]uint64
	for i := range known {
		known[i] = random.Uint64()&0x1f1f1f1f1f1f1f1f | 0x4040404040404040
	}
	text := make([]byte, 0, n+8)
	for len(text) < n {
		text = binary.LittleEndian.AppendUint64(text, known[random.Uint64()%uint64(len(known))])
	}
	return text[:n]
}

// members compresses by NewWriter, in writes of odd sizes.
func members(t testing.TB, plain []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, Gzip, level)
	if err != nil {
		t.Fatal(err)
	}
	for rest := plain; len(rest) > 0; {
		n := min(len(rest), 300_007)
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// split cuts a stream at the lengths that its members have.
func split(t testing.TB, packed []byte) (all [][]byte) {
	t.Helper()
	for len(packed) > 0 {
		n, _, ok := memberLengths(packed)
		if !ok || n > len(packed) {
			t.Fatalf("member %d has no length, or a wrong one: %d of %d", len(all), n, len(packed))
		}
		all, packed = append(all, packed[:n]), packed[n:]
	}
	return all
}

func TestMembersAreGzip(t *testing.T) {
	for _, size := range []int{0, 1, blockSize - 1, blockSize, blockSize + 1, 2*blockSize + 12345} {
		plain := words(size)
		packed := members(t, plain, 0)
		if want := max(1, (size+blockSize-1)/blockSize); len(split(t, packed)) != want {
			t.Errorf("%d bytes: %d members, want %d", size, len(split(t, packed)), want)
		}
		z, err := stdgzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: the standard library reads %d bytes, %v", size, len(got), err)
		}
		cmd := exec.Command("gzip", "-dc")
		cmd.Stdin = bytes.NewReader(packed)
		if got, err := cmd.Output(); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: gzip(1) reads %d bytes, %v", size, len(got), err)
		}
		for how, r := range map[string]io.Reader{
			"at once": bytes.NewReader(packed), "in halves": iotest.HalfReader(bytes.NewReader(packed)),
			"early EOF": iotest.DataErrReader(bytes.NewReader(packed)), "small bufio": bufio.NewReaderSize(bytes.NewReader(packed), 16),
		} {
			if how != "at once" && size > 1 && size <= blockSize+1 {
				continue // the same as of the largest
			}
			if got, _, err := decompress(r); err != nil || got != string(plain) {
				t.Errorf("%d bytes, %s: read as %d bytes, %v", size, how, len(got), err)
			}
		}
	}
}

// What does not compress grows by less than a member may.
func TestMembersThatDoNotCompress(t *testing.T) {
	plain := make([]byte, blockSize+1)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(plain)
	for level := 1; level <= 9; level++ {
		packed := members(t, plain, level)
		if n := len(split(t, packed)); n != 2 {
			t.Errorf("level %d: %d members", level, n)
		}
		if got, _, err := decompress(bytes.NewReader(packed)); err != nil || got != string(plain) {
			t.Errorf("level %d: read as %d bytes, %v", level, len(got), err)
		}
	}
}

func TestMembersDoNotDependOnTheMachine(t *testing.T) {
	plain := words(2*blockSize + 1)
	want := members(t, plain, 0)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, n := range []int{1, 3, 32} {
		runtime.GOMAXPROCS(n)
		if !bytes.Equal(members(t, plain, 0), want) {
			t.Errorf("with %d processors the stream is another", n)
		}
		if got, _, err := decompress(bytes.NewReader(want)); err != nil || got != string(plain) {
			t.Errorf("with %d processors: %d bytes, %v", n, len(got), err)
		}
	}
}

// Members with lengths and without may follow one another.
func TestMembersAmongOthers(t *testing.T) {
	ours, plain := members(t, words(blockSize+1000), 0), string(words(blockSize+1000))
	for name, tt := range map[string]struct {
		packed []byte
		plain  string
	}{
		"before another":  {join(ours, gzipped(t, hello)), plain + hello},
		"after another":   {join(gzipped(t, hello), ours), hello + plain},
		"around another":  {join(ours, gzipped(t, hello), ours), plain + hello + plain},
		"with an empty":   {join(members(t, nil, 0), ours, members(t, nil, 0)), plain},
		"of other levels": {join(members(t, []byte(plain), 9), members(t, []byte(plain), 1)), plain + plain},
	} {
		if got, _, err := decompress(bytes.NewReader(tt.packed)); err != nil || got != tt.plain {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(tt.plain))
		}
	}
}

func TestMemberReaderBehavesAsReader(t *testing.T) {
	plain := words(blockSize + 100)
	r, _, err := NewReader(iotest.OneByteReader(bytes.NewReader(members(t, plain, 1))))
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(r, plain); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if n, err := r.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("after close: %d, %v", n, err)
	}
}

// lie writes another length into the header of a stream's first member.
func lie(packed []byte, at int, length uint32) []byte {
	packed = bytes.Clone(packed)
	binary.LittleEndian.PutUint32(packed[at:], length)
	return packed
}

func TestMembersThatLie(t *testing.T) {
	packed := members(t, words(2*blockSize), 0)
	small := members(t, words(1000), 0)
	first := uint32(len(split(t, packed)[0]))
	for name, p := range map[string][]byte{
		"longer by a byte":    lie(packed, packedAt, first+1),
		"shorter by a byte":   lie(packed, packedAt, first-1),
		"two members in one":  lie(join(small, small), packedAt, uint32(2*len(small))),
		"the header alone":    lie(packed, packedAt, memberHeader),
		"less in it":          lie(packed, plainAt, blockSize-1),
		"more in it":          lie(small, plainAt, 1001),
		"nothing in it":       lie(packed, plainAt, 0),
		"a bomb in a few KiB": lie(members(t, make([]byte, blockSize), 9), plainAt, 1),
	} {
		t.Run(name, func(t *testing.T) { wantError(t, p, Gzip, "is damaged: ") })
	}
	// What is not believed is read as gzip has always been.
	for name, p := range map[string][]byte{
		"longer than any":  lie(packed, packedAt, maxPacked+1),
		"shorter than any": lie(packed, packedAt, memberHeader-1),
		"too much in it":   lie(packed, plainAt, blockSize+1),
	} {
		if got, _, err := decompress(bytes.NewReader(p)); err != nil || got != string(words(2*blockSize)) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestDamagedMembers(t *testing.T) {
	plain := string(words(3 * blockSize))
	packed := members(t, []byte(plain), 0)
	parts := split(t, packed)
	for i := range parts {
		for name, at := range map[string]int{"data": len(parts[i]) / 2, "checksum": len(parts[i]) - 8, "size": len(parts[i]) - 4} {
			p := bytes.Clone(parts[i])
			p[at] ^= 0x10
			all := bytes.Clone(join(parts...))
			copy(all[len(join(parts[:i]...)):], p)
			got, _, err := decompress(bytes.NewReader(all))
			isError(t, got, err, Gzip, "is damaged: ")
			// What comes before the damage is read, as of any stream.
			if before := i*blockSize + blockSize/4; len(got) < before || got[:before] != plain[:before] {
				t.Errorf("%s of member %d: %d bytes before it", name, i, len(got))
			}
		}
	}
	for n := len(packed) - 1; n > len(packed)-len(parts[2]); n -= 150_001 {
		got, _, err := decompress(bytes.NewReader(packed[:n]))
		isError(t, got, err, Gzip, "ends too early")
		if before := n - 100_000 - len(parts[0]) - len(parts[1]); len(got) < 2*blockSize+max(before, 0) || got != plain[:len(got)] {
			t.Errorf("cut at %d: %d bytes before it", n, len(got))
		}
	}
	small := members(t, words(1000), 0)
	for n := 1; n < memberHeader; n++ {
		wantError(t, join(small, packed[:n]), Gzip, "ends too early")
	}
	wantError(t, join(packed, []byte("something else")), Gzip, "is damaged: ")
	// Cut within the name that a header has.
	for _, before := range [][]byte{small, gzipped(t, hello)} {
		wantError(t, join(before, []byte{0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3, 'a', 'b'}), Gzip, "ends too early")
	}
}

// A source that fails is told after what was read before it.
func TestMembersOfSourceThatFails(t *testing.T) {
	failure := errors.New("no such network")
	packed := members(t, words(2*blockSize), 0)
	end := len(packed) - len(split(t, packed)[1])
	for _, n := range []int{end, end + 5, end + memberHeader, end + 1000} {
		got, _, err := decompress(io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(failure)))
		if !errors.Is(err, failure) || len(got) < blockSize || len(got) > blockSize+20_000 {
			t.Errorf("after %d bytes: %d read, %v", n, len(got), err)
		}
	}
}

func TestWriterThatFails(t *testing.T) {
	failure := errors.New("no space")
	in, out := io.Pipe()
	_ = in.CloseWithError(failure)
	w, err := NewWriter(out, Gzip, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err = w.Write(make([]byte, blockSize)); err != nil {
			break
		}
	}
	if !errors.Is(err, failure) {
		t.Errorf("write: %v", err)
	}
	for range 2 {
		if err := w.Close(); !errors.Is(err, failure) {
			t.Errorf("close: %v", err)
		}
	}
}

func TestWriteAfterClose(t *testing.T) {
	var out bytes.Buffer
	w, err := NewWriter(&out, Gzip, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if n, err := w.Write([]byte("x")); n > 0 || err == nil {
		t.Errorf("%d, %v", n, err)
	}
}

// FuzzMembers reads arbitrary bytes: what is read without an error is what the standard library reads.
func FuzzMembers(f *testing.F) {
	small := members(f, words(1000), 0)
	for _, seed := range [][]byte{
		small, join(small, small), join(small, gzipped(f, hello), small), lie(small, plainAt, 999), lie(small, packedAt, 30), small[:50],
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if Detect(data) != Gzip {
			return
		}
		const limit = 8 << 20
		r, _, err := NewReader(bytes.NewReader(data))
		if err != nil {
			return
		}
		got, err := io.ReadAll(io.LimitReader(r, limit))
		if err != nil {
			return
		}
		z, err := stdgzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%d bytes read where there is no gzip: %v", len(got), err)
		}
		want, err := io.ReadAll(io.LimitReader(z, limit))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes read, %d by the standard library, %v", len(got), len(want), err)
		}
	})
}

func BenchmarkGzip(b *testing.B) {
	plain := words(64 << 20)
	packed := members(b, plain, 0)
	var one bytes.Buffer
	z, _ := stdgzip.NewWriterLevel(&one, DefaultGzipLevel)
	_, _ = z.Write(plain)
	_ = z.Close()
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(plain)))
		for b.Loop() {
			members(b, plain, 0)
		}
	})
	for name, p := range map[string][]byte{"read": packed, "read one stream": one.Bytes()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				r, _, err := NewReader(bytes.NewReader(p))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n != int64(len(plain)) {
					b.Fatal(n, err)
				}
			}
		})
	}
}
