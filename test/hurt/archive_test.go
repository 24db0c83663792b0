//go:build e2e

package hurt

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// tarOf is a tar of members, written as they are, whatever they say.
func tarOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		h := tar.Header{Name: m.name, Linkname: m.link, Typeflag: m.kind, Mode: 0o644, Size: int64(len(m.data))}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

type member struct {
	name, data, link string
	kind             byte
}

// archiveWith is a Docker archive of one image with one layer.
func archiveWith(t *testing.T, layer []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	rig.WriteArchive(t, &buf, rig.Image{Names: []string{"hostile:latest"}, Config: map[string]any{"architecture": "amd64", "os": "linux"}, Layers: [][]byte{layer}})
	return buf.Bytes()
}

func zipped(t *testing.T, write func(io.Writer)) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	write(z)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// zeros writes n zero bytes.
func zeros(w io.Writer, n int) {
	block := make([]byte, 1<<20)
	for ; n > 0; n -= len(block) {
		_, _ = w.Write(block[:min(n, len(block))])
	}
}

func TestHostileArchives(t *testing.T) {
	p := newPatient(t)
	good := []byte(p.Run("save", "app"))
	whole := archiveWith(t, tarOf(t, member{name: "f", data: "x"}))
	manifest := func(v any) []byte {
		data, err := json.Marshal([]any{v})
		if err != nil {
			t.Fatal(err)
		}
		return tarOf(t, member{name: "manifest.json", data: string(data)})
	}
	lying := tarOf(t, member{name: "f", data: strings.Repeat("x", 600)})
	copy(lying[124:136], "77777777777\x00") // 8 GiB
	rechecksum(lying)
	negative := tarOf(t, member{name: "f", data: "x"})
	copy(negative[124:136], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
	rechecksum(negative)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 0x40
	for name, archive := range map[string][]byte{
		"nothing":             {},
		"text":                []byte(strings.Repeat("this is no archive\n", 100)),
		"zeros":               make([]byte, 4096),
		"tar of other things": tarOf(t, member{name: "readme", data: "hello"}),
		"half":                good[:len(good)/2],
		"without its end":     good[:len(good)-len(good)/10],
		"one bit flipped":     flipped,
		"broken gzip":         append([]byte{0x1f, 0x8b, 8, 0}, good[:1000]...),
		"half a gzip":         zipped(t, func(w io.Writer) { _, _ = w.Write(good) })[:2000],
		"gzip bomb manifest": zipped(t, func(w io.Writer) {
			tw := tar.NewWriter(w)
			_ = tw.WriteHeader(&tar.Header{Name: "manifest.json", Size: 1 << 30, Mode: 0o644})
			_, _ = io.WriteString(tw, "[")
			zeros(tw, 1<<30-1)
		}),
		"manifest is no JSON":      tarOf(t, member{name: "manifest.json", data: "[{"}),
		"manifest is another JSON": tarOf(t, member{name: "manifest.json", data: `{"a":1}`}),
		"deep JSON":                tarOf(t, member{name: "manifest.json", data: strings.Repeat("[", 100000)}),
		"config outside":           manifest(map[string]any{"Config": "../../../../etc/passwd", "Layers": []string{}}),
		"config absolute":          manifest(map[string]any{"Config": "/etc/passwd", "Layers": []string{}}),
		"config missing":           manifest(map[string]any{"Config": "nope.json", "Layers": []string{}}),
		"layer outside":            bytes.Replace(whole, []byte("/layer.tar\"]"), []byte("/../..tar\"]"), 1),
		"bad name":                 bytes.Replace(whole, []byte("hostile:latest"), []byte("HOSTILE:LATEST"), 1),
		"escaping member":          tarOf(t, member{name: "../../escape", data: "x"}),
		"escaping link":            tarOf(t, member{name: "manifest.json", kind: tar.TypeSymlink, link: "/etc/passwd"}),
		"escaping hard link":       tarOf(t, member{name: "manifest.json", kind: tar.TypeLink, link: "../../etc/passwd"}),
		"linked to itself":         tarOf(t, member{name: "manifest.json", kind: tar.TypeSymlink, link: "manifest.json"}),
		"manifest twice":           tarOf(t, member{name: "manifest.json", data: "[]"}, member{name: "manifest.json", data: "[]"}),
		"manifest is a fifo":       tarOf(t, member{name: "manifest.json", kind: tar.TypeFifo}),
		"manifest is a device":     tarOf(t, member{name: "manifest.json", kind: tar.TypeChar}),
		"size that lies":           lying,
		"negative size":            negative,
		"OCI index of nothing":     tarOf(t, member{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`}, member{name: "index.json", data: `{"schemaVersion":2,"manifests":[]}`}),
		"OCI digest outside": tarOf(t, member{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`},
			member{name: "index.json", data: `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:../../../../etc/passwd","size":10}]}`}),
		"OCI digest of nothing": tarOf(t, member{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`},
			member{name: "index.json", data: `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"","size":0}]}`}),
		"OCI index of itself": selfIndex(t),
		// Layers that no honest builder writes.
		"layer above the root":        archiveWith(t, tarOf(t, member{name: "../../../../tmp/mica-escaped", data: "x"})),
		"layer with a dot-dot inside": archiveWith(t, tarOf(t, member{name: "a/../../mica-escaped", data: "x"})),
		"hard link above the root":    archiveWith(t, tarOf(t, member{name: "l", kind: tar.TypeLink, link: "../../../etc/passwd"})),
		"hard link to nothing":        archiveWith(t, tarOf(t, member{name: "l", kind: tar.TypeLink, link: "nothing"})),
		"whiteout of dot-dot":         archiveWith(t, tarOf(t, member{name: ".wh..."})),
		"whiteout of dot":             archiveWith(t, tarOf(t, member{name: "a/.wh.."})),
		"whiteout of nothing":         archiveWith(t, tarOf(t, member{name: "a/.wh."})),
		"file below a file":           archiveWith(t, tarOf(t, member{name: "a", data: "x"}, member{name: "a/b", data: "y"})),
		"layer that is no tar":        archiveWith(t, []byte(strings.Repeat("no tar ", 200))),
		"layer that lies":             archiveWith(t, lying),
		"name too long":               archiveWith(t, tarOf(t, member{name: strings.Repeat("n", 300), data: "x"})),
		"NUL in a name":               archiveWith(t, bytes.ReplaceAll(tarOf(t, member{name: "aXb/" + strings.Repeat("p", 120), data: "x"}), []byte("aXb"), []byte("a\x00b"))),
	} {
		t.Run(name, func(t *testing.T) {
			p := &patient{t, p.Mica}
			p.refuses(1, `^Error: `, bytes.NewReader(archive), "load")
			if _, err := os.Lstat("/tmp/mica-escaped"); err == nil {
				t.Fatal("it escaped")
			}
		})
	}
	p.healthy()
}

// rechecksum makes a tar header valid again after it was changed.
func rechecksum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, b := range header[:512] {
		sum += int(b)
	}
	copy(header[148:156], []byte{
		byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' ',
	})
}

// selfIndex is an OCI archive whose index lists an index that lists nothing but another one, on and on.
func selfIndex(t *testing.T) []byte {
	t.Helper()
	members := []member{{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`}}
	next := `{"schemaVersion":2,"manifests":[]}`
	for range 50 {
		digest := rig.Sum([]byte(next))
		members = append(members, member{name: "blobs/sha256/" + digest, data: next})
		entry := map[string]any{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:" + digest, "size": len(next)}
		data, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{entry}})
		if err != nil {
			t.Fatal(err)
		}
		next = string(data)
	}
	return tarOf(t, append(members, member{name: "index.json", data: next})...)
}

// TestStrangeLayers loads layers that are odd but mean something, and sees that they mean it inside the image only.
func TestStrangeLayers(t *testing.T) {
	p := newPatient(t)
	victim := filepath.Join(rig.TempDir(t), "victim")
	if err := os.Mkdir(victim, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, layer := range map[string][]byte{
		"through an absolute link": tarOf(t, member{name: "out", kind: tar.TypeSymlink, link: victim}, member{name: "out/file", data: "x"}),
		"through a relative link": tarOf(t, member{name: "d/", kind: tar.TypeDir}, member{name: "d/out", kind: tar.TypeSymlink, link: "../../../../../../../../.." + victim},
			member{name: "d/out/file", data: "x"}),
		"name twice":      tarOf(t, member{name: "f", data: "one"}, member{name: "f", data: "two"}),
		"and a directory": tarOf(t, member{name: "f", data: "one"}, member{name: "f", kind: tar.TypeDir}, member{name: "f/g", data: "two"}),
	} {
		out := p.Try(bytes.NewReader(archiveWith(t, layer)), "load")
		if out.Code == 0 {
			dest := filepath.Join(rig.TempDir(t), "out")
			p.RunIn(nil, "export", "-o", dest, "hostile")
			// The program of the base, on top of the strange layer.
			p.Run("build", "-q", "-t", "used", context(t, "FROM hostile\nCOPY --from=base / /\nCOPY f /out/file2\nRUN find / -xdev | wc -l\n"))
		} else if !strings.HasPrefix(out.Stderr, "Error: ") {
			t.Errorf("%s: %s", name, out.Stderr)
		}
		left, err := os.ReadDir(victim)
		if err != nil || len(left) > 0 {
			t.Fatalf("%s: it escaped to %v %v", name, left, err)
		}
	}
	p.healthy()
}

// TestBombLayer loads a layer of zeros that is large when unpacked: it costs memory for neither its size nor its unpacking.
func TestBombLayer(t *testing.T) {
	p := newPatient(t)
	bomb := zipped(t, func(w io.Writer) {
		tw := tar.NewWriter(w)
		_ = tw.WriteHeader(&tar.Header{Name: "zeros", Size: 4 << 30, Mode: 0o644})
		zeros(tw, 4<<30)
		_ = tw.Close()
	})
	p.Prefix = []string{"sh", "-c", `ulimit -v 4000000; exec "$0" "$@"`}
	out := p.Try(bytes.NewReader(bomb), "import", "-", "bomb")
	if out.Code != 0 {
		t.Fatalf("import: %s", out.Stderr)
	}
	if got := p.Run("images", "--format", "{{.Size}}", "bomb"); got != "4.29GB\n" {
		t.Errorf("size is %s", got)
	}
	p.Prefix = nil
	p.Run("rmi", "bomb")
	p.healthy()
}

func TestBadImports(t *testing.T) {
	p := newPatient(t)
	for name, in := range map[string][]byte{
		"text":        []byte("not a tar at all"),
		"half a gzip": zipped(t, func(w io.Writer) { zeros(w, 100_000) })[:60],
		"escape":      tarOf(t, member{name: "../x", data: "x"}),
		"cut off":     tarOf(t, member{name: "x", data: strings.Repeat("x", 10_000)})[:3000],
	} {
		t.Run(name, func(t *testing.T) {
			p := &patient{t, p.Mica}
			p.refuses(1, `^Error: `, bytes.NewReader(in), "import", "-", "x")
		})
	}
	p.refuses(1, `RUN is not a valid change command`, nil, "import", "-c", "RUN true", filepath.Join(rig.Top(), "LICENSE"), "x")
	p.refuses(1, `no such file`, nil, "import", "/no/such.tar", "x")
	p.refuses(1, `no such file`, nil, "load", "-i", "/no/such.tar")
	p.healthy()
}
