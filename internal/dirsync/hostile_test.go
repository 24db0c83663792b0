package dirsync

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/tonistiigi/fsutil/types"
)

// script is a client that sends what it likes.
type script struct {
	packets []*types.Packet
	next    int
}

var errScript = errors.New("the script has ended")

func (s *script) SendMsg(any) error { return nil }

func (s *script) RecvMsg(m any) error {
	if s.next == len(s.packets) {
		return errScript
	}
	raw, err := s.packets[s.next].MarshalVT()
	s.next++
	into, _ := m.(*types.Packet)
	return errors.Join(err, into.UnmarshalVT(raw))
}

func stat(name string, mode fs.FileMode, link string) *types.Packet {
	return &types.Packet{Type: types.PACKET_STAT, Stat: &types.Stat{Path: name, Mode: uint32(mode), Linkname: link}}
}

// TestHostile: what no directory can have ends the transfer, and nothing of it is kept.
func TestHostile(t *testing.T) {
	t.Parallel()
	end, part := &types.Packet{Type: types.PACKET_STAT}, &types.Packet{Type: types.PACKET_DATA, Data: []byte("x")}
	for name, c := range map[string]struct {
		packets []*types.Packet
		err     string
	}{
		"a path above":          {[]*types.Packet{stat("../x", 0o644, "")}, `path "../x"`},
		"an absolute path":      {[]*types.Packet{stat("/x", 0o644, "")}, `path "/x"`},
		"no path":               {[]*types.Packet{stat("", 0o644, "")}, `path ""`},
		"the directory itself":  {[]*types.Packet{stat(".", fs.ModeDir, "")}, `path "."`},
		"a path with a detour":  {[]*types.Packet{stat("a", fs.ModeDir, ""), stat("a/../b", 0o644, "")}, `path "a/../b"`},
		"a zero byte":           {[]*types.Packet{stat("a\x00", 0o644, "")}, `path "a\x00"`},
		"a long name":           {[]*types.Packet{stat(strings.Repeat("x", 256), 0o644, "")}, "path"},
		"a long target":         {[]*types.Packet{stat("x", fs.ModeSymlink, strings.Repeat("x", 4096))}, "path"},
		"the same twice":        {[]*types.Packet{stat("a", 0o644, ""), stat("a", 0o644, "")}, `"a" after "a"`},
		"a wrong order":         {[]*types.Packet{stat("b", 0o644, ""), stat("a", 0o644, "")}, `"a" after "b"`},
		"back to a directory":   {[]*types.Packet{stat("a", fs.ModeDir, ""), stat("b", 0o644, ""), stat("a/x", 0o644, "")}, `"a/x" after "b"`},
		"below a symlink":       {[]*types.Packet{stat("a", fs.ModeSymlink, "/"), stat("a/x", 0o644, "")}, "not its directory"},
		"below a file":          {[]*types.Packet{stat("a", 0o644, ""), stat("a/x", 0o644, "")}, "not its directory"},
		"a link to nothing":     {[]*types.Packet{stat("a", 0o644, "/etc/passwd")}, "not among its files"},
		"a link to a link":      {[]*types.Packet{stat("a", 0o644, ""), stat("b", 0o644, "a"), stat("c", 0o644, "b")}, "not among its files"},
		"a link to itself":      {[]*types.Packet{stat("a", 0o644, "a")}, "not among its files"},
		"an unknown type":       {[]*types.Packet{stat("a", fs.ModeIrregular, "")}, "unknown type"},
		"a socket":              {[]*types.Packet{stat("a", fs.ModeSocket, "")}, "unknown type"},
		"data of no file":       {[]*types.Packet{part}, "not asked for"},
		"data of a directory":   {[]*types.Packet{stat("a", fs.ModeDir, ""), part}, "not asked for"},
		"data after the end":    {[]*types.Packet{stat("a", 0o644, ""), stat("b", 0o644, ""), part, {Type: types.PACKET_DATA}, part}, "not asked for"},
		"the end twice":         {[]*types.Packet{stat("a", 0o644, ""), end, end}, "twice"},
		"a file after the last": {[]*types.Packet{stat("a", 0o644, ""), end, stat("b", 0o644, "")}, "after that of its last"},
		"an error":              {[]*types.Packet{{Type: types.PACKET_ERR, Data: []byte("its disk is broken")}}, "its disk is broken"},
		"half a file":           {[]*types.Packet{stat("a", 0o644, ""), end, part}, errScript.Error()},
		"many files at once":    {manyAtOnce(), "at once"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, err := Receive(context.Background(), &script{packets: c.packets}, Options{
				Dir: dir, File: func(*types.Stat) bool { return false }, Progress: func(int, bool) {},
			})
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// manyAtOnce begins to send more files than it may.
func manyAtOnce() (all []*types.Packet) {
	for i := range maxIncoming + 1 {
		all = append(all, stat(strings.Repeat("a", i+1), 0o644, ""))
	}
	for i := range maxIncoming + 1 {
		all = append(all, &types.Packet{Type: types.PACKET_DATA, ID: uint32(i), Data: make([]byte, small+1)})
	}
	return all
}

// FuzzIndex: an index that is damaged in a way that its checksum does not show is read without harm.
func FuzzIndex(f *testing.F) {
	index := encodeIndex([]record{{path: "a", mode: 0o644, content: content{file: 1, length: 2}}, {path: "b", link: "a", mode: 0o644}}, "boot")
	f.Add(index[:len(index)-4])
	f.Fuzz(func(t *testing.T, raw []byte) {
		files, _ := decodeIndex(sealed(raw))
		if !present(t.TempDir(), files) {
			return
		}
		for i := range files {
			_ = find(files, files[i].link)
		}
	})
}
