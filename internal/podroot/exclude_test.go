package podroot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// Who reads files of mica's image waits for a step that is in the root directory, and a step for who reads them.
func TestExclude(t *testing.T) {
	t.Parallel()
	r := testRoot(t)
	dir := testTree(t, r)
	passwd := func() string {
		data, err := os.ReadFile(filepath.Join(r.Dir(), "etc/passwd"))
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	synctest.Test(t, func(t *testing.T) {
		use := enter(t, r, dir, nil)
		read := make(chan string, 2)
		for range cap(read) { // at once
			go func() {
				release, err := r.Exclude(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				read <- passwd()
				if err := release(); err != nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		if len(read) > 0 {
			t.Error("files were read while a step had the directory")
		}
		gone, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("gone"))
		if _, err := r.Exclude(gone); err == nil || err.Error() != "gone" {
			t.Errorf("%v", err)
		}
		if err := use.Leave(); err != nil {
			t.Fatal(err)
		}
		for range cap(read) {
			if got := <-read; got != "image" {
				t.Errorf("read %q", got)
			}
		}

		release, err := r.Exclude(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		entered := make(chan struct{})
		go func() {
			defer close(entered)
			if err := enter(t, r, dir, nil).Leave(); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if got := passwd(); got != "image" {
			t.Errorf("a step has come in: %q", got)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
		<-entered
	})
}

// What a process that was killed has left of a step is not taken for mica's image.
func TestExcludeAfterKill(t *testing.T) {
	t.Parallel()
	r := testRoot(t)
	use := enter(t, r, testTree(t, r), nil)
	if err := use.Lock().Close(); err != nil { // as the kernel does
		t.Fatal(err)
	}
	release, err := reopen(t, r.Dir()).Exclude(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := files(t, r.Dir()); got != imageFiles {
		t.Errorf("left:\n%s\nwant\n%s", got, imageFiles)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
