//go:build e2e

package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Logs in the context, of any size, that are appended to all the time end no build: each is copied as it was at one moment.
func TestLogsInTheContext(t *testing.T) {
	m := newMica(t)
	const line = "a line of a log that goes on and on, until the build has ended\n"
	dir := directory(t, map[string]string{
		"Dockerfile": "FROM base\nCOPY . /c\nRUN cp -r /c /d\n", "small.log": line, "large.log": strings.Repeat(line, 100_000),
	})
	huge := filepath.Join(dir, "huge.log") // begins with a hole
	if err := os.WriteFile(huge, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 65<<20); err != nil {
		t.Fatal(err)
	}
	stop := appending(t, line, filepath.Join(dir, "small.log"), filepath.Join(dir, "large.log"), huge)
	defer stop()
	for i := range 8 {
		name := fmt.Sprintf("app%d", i)
		out := m.Try(nil, "build", "-q", "-t", name, dir)
		if out.Code != 0 {
			info, _ := os.Stat(filepath.Join(dir, "large.log"))
			t.Fatalf("build %d, large.log has %d bytes: %s", i, info.Size(), out.Stderr)
		}
		for _, log := range []string{"cat /d/small.log", "cat /d/large.log", fmt.Sprintf("tail -c +%d /d/huge.log", 65<<20+1)} {
			got := m.Run("run", name, "sh", "-c", log)
			if len(got) == 0 || strings.Repeat(line, len(got)/len(line)) != got {
				t.Errorf("build %d has %d bytes of %s, which are not whole lines", i, len(got), log)
			}
		}
	}
}

// appending adds lines to files all the time, until it is stopped.
func appending(t *testing.T, line string, files ...string) (stop func()) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	var open []*os.File
	for _, file := range files {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			for _, f := range open {
				if _, err := f.WriteString(line); err != nil {
					t.Errorf("append: %v", err)
					return
				}
			}
			if n%10 == 0 { // no log grows as fast as a disk can write
				for _, f := range open {
					_ = f.Sync()
				}
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		for _, f := range open {
			_ = f.Close()
		}
	}
}
