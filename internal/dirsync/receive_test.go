package dirsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/view"
)

// pipe is one end of a stream.
type pipe struct {
	ctx      context.Context
	in       <-chan *types.Packet
	out      chan<- *types.Packet
	received func(*types.Packet) // called with what is received
}

func newPipe(ctx context.Context, received func(*types.Packet)) (client, server *pipe) {
	a, b := make(chan *types.Packet), make(chan *types.Packet)
	return &pipe{ctx, a, b, func(*types.Packet) {}}, &pipe{ctx, b, a, received}
}

func (p *pipe) Context() context.Context { return p.ctx }

func (p *pipe) SendMsg(m any) error {
	packet, _ := m.(*types.Packet)
	packet = packet.CloneVT()
	select {
	case p.out <- packet:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *pipe) RecvMsg(m any) error {
	select {
	case packet, ok := <-p.in:
		if !ok {
			return io.EOF
		}
		into, _ := m.(*types.Packet)
		raw, err := packet.MarshalVT()
		if err == nil {
			err = into.UnmarshalVT(raw)
		}
		p.received(packet)
		return err
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// transfer is one from a client's directory.
type transfer struct {
	from, to string
	temp     func() (string, error)
	again    bool
	cut      func(*types.Packet) bool // ends it at a packet
	sent     []string                 // the files of which content was sent
	bytes    int
}

func (tr *transfer) run(t *testing.T) (*Files, error) {
	t.Helper()
	source, err := fsutil.NewFS(tr.from)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var names []string
	seen := map[uint32]bool{}
	client, server := newPipe(ctx, func(p *types.Packet) {
		switch {
		case tr.cut != nil && tr.cut(p):
			cancel()
		case p.Type == types.PACKET_STAT && p.Stat != nil:
			names = append(names, p.Stat.Path)
		case p.Type == types.PACKET_DATA && !seen[p.ID]:
			seen[p.ID] = true
			tr.sent = append(tr.sent, names[p.ID])
		}
	})
	var files *Files
	var g errgroup.Group
	g.Go(func() error {
		defer close(client.out)
		return fsutil.Send(ctx, client, source, nil)
	})
	g.Go(func() (err error) {
		files, err = Receive(ctx, server, Options{
			Dir: tr.to, Temp: tr.temp, File: func(*types.Stat) bool { return tr.again }, Progress: func(n int, _ bool) { tr.bytes = n },
		})
		return err
	})
	err = g.Wait()
	slices.Sort(tr.sent)
	return files, err
}

// receive transfers a directory, and compares what was received with it. It returns the names of the files that were sent.
func receive(t *testing.T, from, to string) []string {
	t.Helper()
	return (&transfer{from: from, to: to}).compare(t)
}

func (tr *transfer) compare(t *testing.T) []string {
	t.Helper()
	files, err := tr.run(t)
	if err != nil {
		t.Fatal(err)
	}
	want, err := view.Dir(tr.from, view.DirOptions{Anonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(listing(t, want, "."), listing(t, files.View(nil), ".")); diff != "" {
		t.Error(diff)
	}
	if tr.bytes == 0 {
		t.Error("no progress")
	}
	return tr.sent
}

// listing describes all files of a view.
func listing(t *testing.T, v view.View, dir string) []string {
	t.Helper()
	entries, err := v.ReadDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		line := fmt.Sprintf("%s %d %o %d %s %q %q %d:%d", e.Path, e.Type, e.Mode, e.Size, e.ModTime, e.Linkname, e.Hardlink, e.Major, e.Minor)
		if e.Type == view.TypeRegular {
			line += " " + bytesOf(t, v, e.Path)
		}
		all = append(all, line)
		if e.IsDir() {
			all = append(all, listing(t, v, e.Path)...)
		}
	}
	return all
}

// bytesOf is the digest of a file, which its bytes must have.
func bytesOf(t *testing.T, v view.View, name string) string {
	t.Helper()
	sum, err := v.Digest(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := v.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	verifier := sum.Verifier()
	if _, err := io.Copy(verifier, f); err != nil || !verifier.Verified() {
		t.Errorf("%s has other bytes than its digest says: %v", name, err)
	}
	return sum.String()
}

// put writes files. A name that ends in / is a directory, a content that begins with -> a symlink, with = a hard link.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		full := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(full, 0o755)
		case strings.HasPrefix(data, "->"):
			err = os.Symlink(data[2:], full)
		case strings.HasPrefix(data, "="):
			err = os.Link(filepath.Join(dir, data[1:]), full)
		default:
			err = os.WriteFile(full, []byte(data), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// clientDir is a directory with files of all kinds.
func clientDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, map[string]string{
		"a": "1", "empty": "", "large": strings.Repeat("large", 100_000), "d/b": "2", "d/sub/c": "3", "d-e/f": "4", "none/": "", "link": "->d/b",
	})
	put(t, dir, map[string]string{"d/same": "=a"})
	if err := os.Chmod(filepath.Join(dir, "d/b"), 0o4640|fs.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReceive(t *testing.T) {
	t.Parallel()
	from, to := clientDir(t), t.TempDir()
	put(t, to, map[string]string{"index": "of another kind", "files/of/an/earlier/version": ""})
	if got := receive(t, from, to); len(got) != 6 {
		t.Errorf("first, %v are sent", got)
	}
	if got := receive(t, from, to); got != nil {
		t.Errorf("then, %v are sent", got)
	}
	if got := receive(t, t.TempDir(), to); got != nil {
		t.Errorf("of an empty directory, %v are sent", got)
	}
	if left, err := os.ReadDir(to); err != nil || len(left) != 1 || left[0].Name() != indexName {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestReceiveOnce: files that are not kept are in memory unless they are large or many.
func TestReceiveOnce(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 20 {
		many[fmt.Sprint("many", i)] = strings.Repeat("many", 10_000)
	}
	for name, c := range map[string]struct {
		put   map[string]string
		files int
	}{
		"none":         {nil, 0},
		"a small file": {map[string]string{"Dockerfile": "FROM scratch\n"}, 0},
		"a large file": {map[string]string{"Dockerfile": "FROM scratch\n", "large": strings.Repeat("large", 20_000)}, 1},
		"many files":   {many, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := t.TempDir(), t.TempDir()
			put(t, from, c.put)
			(&transfer{from: from, temp: func() (string, error) { return to, nil }}).compare(t)
			if files, err := os.ReadDir(to); err != nil || len(files) != c.files {
				t.Errorf("files: %v, %v", files, err)
			}
		})
	}
}

// TestDifferences: only what has changed is sent.
func TestDifferences(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		remove string
		put    map[string]string
		want   []string
	}{
		"content":                     {put: map[string]string{"a": "other"}, want: []string{"a"}},
		"a large file":                {put: map[string]string{"large": strings.Repeat("other", 100_001)}, want: []string{"large"}},
		"a new file":                  {put: map[string]string{"d/new": "5"}, want: []string{"d/new"}},
		"a removed file":              {remove: "d/sub/c"},
		"a removed directory":         {remove: "d/sub"},
		"a directory that was a file": {remove: "empty", put: map[string]string{"empty/x": "5"}, want: []string{"empty/x"}},
		"a file that was a directory": {remove: "d-e", put: map[string]string{"d-e": "5"}, want: []string{"d-e"}},
		"another target":              {remove: "link", put: map[string]string{"link": "->elsewhere"}},
		"no link any longer":          {remove: "d/same", put: map[string]string{"d/same": "1"}, want: []string{"d/same"}},
		"without the first name":      {remove: "a", want: []string{"d/same"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := clientDir(t), t.TempDir()
			receive(t, from, to)
			if c.remove != "" {
				if err := os.RemoveAll(filepath.Join(from, c.remove)); err != nil {
					t.Fatal(err)
				}
			}
			put(t, from, c.put)
			if diff := cmp.Diff(c.want, receive(t, from, to)); diff != "" {
				t.Error(diff)
			}
			if got := receive(t, from, to); got != nil {
				t.Errorf("then, %v are sent", got)
			}
		})
	}
}

// TestAgain: the caller may want a file again that has not changed.
func TestAgain(t *testing.T) {
	t.Parallel()
	from, to := clientDir(t), t.TempDir()
	receive(t, from, to)
	file := filepath.Join(from, "a")
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	put(t, from, map[string]string{"a": "2"})
	if err := os.Chtimes(file, time.Time{}, st.ModTime()); err != nil {
		t.Fatal(err)
	}
	tr := transfer{from: from, to: to, again: true}
	files, err := tr.run(t)
	if err != nil || len(tr.sent) != 6 {
		t.Errorf("%v are sent, %v", tr.sent, err)
	}
	if got, want := bytesOf(t, files.View(nil), "a"), "sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"; got != want {
		t.Errorf("the file has the digest %s, want %s", got, want)
	}
}

// TestInterrupted: a transfer that is interrupted leaves what was there.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	from, to := clientDir(t), t.TempDir()
	receive(t, from, to)
	put(t, from, map[string]string{"a": "other", "large": strings.Repeat("other", 100_001)})
	parts := 0
	tr := transfer{from: from, to: to, cut: func(p *types.Packet) bool {
		if p.Type == types.PACKET_DATA {
			parts++
		}
		return parts > 5
	}}
	if _, err := tr.run(t); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if diff := cmp.Diff([]string{"a", "large"}, receive(t, from, to)); diff != "" {
		t.Error(diff)
	}
}

// TestDamaged: what is damaged is sent again.
func TestDamaged(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, dir string){
		"an index of another start with another content": func(t *testing.T, dir string) {
			files, _ := decodeIndex(read(t, dir, indexName))
			change(t, dir, indexName, func([]byte) []byte {
				return encodeIndex(files, "another")
			})
			change(t, dir, fmt.Sprint(find(files, "a").content.file), func(b []byte) []byte {
				b[0]++
				return b
			})
		},
		"a bit of the index": func(t *testing.T, dir string) {
			change(t, dir, indexName, func(b []byte) []byte { b[40] ^= 1; return b })
		},
		"a truncated index": func(t *testing.T, dir string) {
			change(t, dir, indexName, func(b []byte) []byte { return b[:len(b)/2] })
		},
		"an empty index": func(t *testing.T, dir string) { change(t, dir, indexName, func([]byte) []byte { return nil }) },
		"a content that is gone": func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "1")); err != nil {
				t.Fatal(err)
			}
		},
		"a truncated content": func(t *testing.T, dir string) { change(t, dir, "1", func(b []byte) []byte { return b[:len(b)-1] }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := clientDir(t), t.TempDir()
			receive(t, from, to)
			damage(t, to)
			if got := receive(t, from, to); len(got) != 6 {
				t.Errorf("%v are sent", got)
			}
		})
	}
}

// TestOtherStart: after another start of the host, what is intact is kept.
func TestOtherStart(t *testing.T) {
	t.Parallel()
	from, to := clientDir(t), t.TempDir()
	receive(t, from, to)
	change(t, to, indexName, func(b []byte) []byte {
		files, _ := decodeIndex(b)
		return encodeIndex(files, "another")
	})
	if got := receive(t, from, to); got != nil {
		t.Errorf("%v are sent", got)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func change(t *testing.T, dir, name string, f func([]byte) []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), f(read(t, dir, name)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestGather: contents that were sent by many transfers come together.
func TestGather(t *testing.T) {
	t.Parallel()
	from, to := clientDir(t), t.TempDir()
	for i := range 3 * maxShared {
		put(t, from, map[string]string{fmt.Sprintf("d/new%d", i): fmt.Sprint("new", i), "a": fmt.Sprint("changed", i)})
		receive(t, from, to)
	}
	files, err := os.ReadDir(to)
	if err != nil || len(files) > maxShared+4 {
		t.Errorf("%d files, %v", len(files), err)
	}
}
