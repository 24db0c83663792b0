// Package commandtest has what tests of commands share.
package commandtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/micabuild/mica/internal/terminal"
)

// Output is a stream in a file, and what was written to it.
func Output(t *testing.T) (*terminal.Writer, func() string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	w := terminal.NewWriter(f)
	return w, func() string {
		t.Helper()
		flushErr := w.Flush()
		text, err := os.ReadFile(f.Name())
		if err := errors.Join(flushErr, err); err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// Text is the text of an error, "" for none.
func Text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
