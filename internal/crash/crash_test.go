package crash

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

func TestGuard(t *testing.T) {
	want := errors.New("an error")
	var none []int
	for name, f := range map[string]func() error{
		"internal error: runtime error: index out of range [3] with length 0": func() error { return errors.New(string(rune(none[3]))) },
		"internal error: two lines": func() error { panic("two\n\tlines") },
		"an error":                  func() error { return want },
	} {
		var g errgroup.Group
		g.Go(Guard(f))
		err := g.Wait()
		if err == nil || err.Error() != name {
			t.Errorf("%v, want %s", err, name)
		}
		var e *Error
		if errors.As(err, &e) != strings.HasPrefix(name, "internal") {
			t.Errorf("%T", err)
		}
		if e != nil && !strings.Contains(string(e.Stack), "TestGuard") {
			t.Errorf("its stack is %s", e.Stack)
		}
		var fault runtime.Error
		if strings.Contains(name, "index") && !errors.As(err, &fault) {
			t.Errorf("%v does not unwrap", err)
		}
	}
	if err := Guard(func() error { return nil })(); err != nil {
		t.Error(err)
	}
}
