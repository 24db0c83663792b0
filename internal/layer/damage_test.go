package layer

import (
	"os"
	"path/filepath"
	"time"
)

// treeDamages are things that may happen to everything's tree.
var treeDamages = map[string]func(tree string) error{
	"file removed":   func(tree string) error { return os.Remove(filepath.Join(tree, "s")) },
	"file added":     func(tree string) error { return os.WriteFile(filepath.Join(tree, "d/more"), nil, 0o600) },
	"file truncated": func(tree string) error { return os.Truncate(filepath.Join(tree, "d/f"), 1) },
	"file touched":   func(tree string) error { return os.Chtimes(filepath.Join(tree, "d/f"), time.Time{}, time.Unix(99, 0)) },
	"mode changed":   func(tree string) error { return os.Chmod(filepath.Join(tree, "d/f"), 0o600) },
	"type changed": func(tree string) error {
		if err := os.Remove(filepath.Join(tree, "n")); err != nil {
			return err
		}
		return os.Symlink("x", filepath.Join(tree, "n"))
	},
	"whiteout gone": func(tree string) error { return os.Remove(filepath.Join(tree, "gone")) },
}
