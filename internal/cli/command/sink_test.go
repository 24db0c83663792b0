package command

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/terminal/terminaltest"
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

// TestWritePrivate: only the owner may read what was written; a failure leaves nothing.
func TestWritePrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	app := &App{umask: 0o022}
	file := filepath.Join(dir, "image.tar")
	if err := app.WritePrivate(file, func(w io.Writer) error { _, err := io.WriteString(w, "text"); return err }); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	failed := errors.New("failed")
	if err := app.WritePrivate(file, func(w io.Writer) error { _, _ = io.WriteString(w, "other"); return failed }); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
	data, err := os.ReadFile(file)
	left, listErr := os.ReadDir(dir)
	if err != nil || listErr != nil || string(data) != "text" || len(left) != 1 {
		t.Errorf("%q, %v, %d files", data, err, len(left))
	}
}

// TestCreateSpecial: a device is written to and stays what it is.
func TestCreateSpecial(t *testing.T) {
	t.Parallel()
	w, err := (&App{}).Create(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(w.Commit(), w.Close()); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode()&fs.ModeDevice == 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := (&App{}).Create("/no/such/file"); text(err) == "" {
		t.Error("a file in a directory that does not exist")
	}
}

// TestCreateOnATerminal: archives are not written to terminals.
func TestCreateOnATerminal(t *testing.T) {
	t.Parallel()
	tty, _ := terminaltest.Screen(t)
	app := &App{Stdout: terminal.NewWriter(tty)}
	for _, dest := range []string{"", "-"} {
		if _, err := app.Create(dest); text(err) != "dest is required: refusing to write an archive to a terminal" {
			t.Errorf("%q: %v", dest, err)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	plain := errors.New("plain")
	for want, err := range map[string]error{
		"exit code 3": &ExitError{Code: 3}, "plain": &ExitError{3, plain}, "failed to build: plain": FailedBuild{plain}, "plain\nplain": ErrorList{plain, plain},
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err.Error(), want)
		}
	}
	for _, err := range []error{&ExitError{1, plain}, Verbatim{plain}, FailedBuild{plain}, ErrorList{errors.New("x"), plain}} {
		if !errors.Is(err, plain) {
			t.Errorf("%T hides its cause", err)
		}
	}
	if ErrorList(nil).OrNil() != nil || (ErrorList{plain}).OrNil() == nil {
		t.Error("a list is an error if it has one")
	}
}

// TestStoreDir: --root comes before the environment.
func TestStoreDir(t *testing.T) {
	t.Setenv("MICA_ROOT", "/of/environment")
	app := &App{}
	fl := pflag.NewFlagSet("", pflag.ContinueOnError)
	app.AddFlags(fl)
	if dir, err := app.storeDir(); dir != "/of/environment" || err != nil {
		t.Errorf("%s, %v", dir, err)
	}
	if err := fl.Parse([]string{"--root", "/of/flag"}); err != nil {
		t.Fatal(err)
	}
	if dir, err := app.storeDir(); dir != "/of/flag" || err != nil {
		t.Errorf("%s, %v", dir, err)
	}
}
