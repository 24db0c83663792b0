package command

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// text is the text of an error, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestCreate: an output's file appears when it is committed, with the permissions of the file that it replaces.
func TestCreate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	app := &App{umask: 0o022}
	write := func(name string, commit bool) error {
		w, err := app.Create(name)
		if err != nil {
			return err
		}
		if _, err := w.Write([]byte("new")); err != nil {
			return err
		}
		if commit {
			if err := w.Commit(); err != nil {
				return err
			}
		}
		return w.Close()
	}
	old, link := filepath.Join(dir, "old"), filepath.Join(dir, "link")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("old", link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		commit bool
		file   string
		text   string
		mode   fs.FileMode
	}{
		{link, false, old, "old", 0o600},
		{link, true, old, "new", 0o600},
		{filepath.Join(dir, "fresh"), true, filepath.Join(dir, "fresh"), "new", 0o644},
	} {
		if err := write(c.name, c.commit); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(c.file)
		info, statErr := os.Lstat(c.file)
		if err != nil || statErr != nil || string(data) != c.text || info.Mode() != c.mode {
			t.Errorf("%s: %q, %v, %v", c.name, data, info.Mode(), err)
		}
	}
	if list, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(list) > 0 {
		t.Errorf("temporary files are left: %v, %v", list, err)
	}
	if _, err := app.Create(dir); text(err) != "destination "+dir+" is a directory" {
		t.Errorf("%v", err)
	}
}
