package sandbox

import (
	"os"
	"path/filepath"
	"testing"
)

// Whether a user may execute a file depends on whose it is; root may what anybody may.
func TestMayExecute(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	writeFile(t, path, "")
	owner := ids{uid: uint32(os.Getuid()), gid: uint32(os.Getgid())}
	stranger := ids{uid: 70001, gid: 70001}
	member := ids{uid: 70001, gid: 70001, groups: []uint32{owner.gid}}
	for _, c := range []struct {
		mode                  os.FileMode
		root, stranger, group bool
	}{
		{0o644, false, false, false}, {0o700, true, false, false}, {0o710, true, false, true}, {0o701, true, true, false}, {0o755, true, true, true},
	} {
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for who, is := range map[string][2]bool{
			"root":     {(ids{}).mayExecute(info), c.root},
			"owner":    {owner.mayExecute(info), c.mode&0o100 != 0},
			"stranger": {stranger.mayExecute(info), c.stranger},
			"member":   {member.mayExecute(info), c.group},
		} {
			if is[0] != is[1] {
				t.Errorf("%s, mode %o: %t", who, c.mode, is[0])
			}
		}
	}
}
