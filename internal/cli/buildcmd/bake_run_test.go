package buildcmd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// TestCanceled: the other targets are canceled when one fails, whatever its error is; a signal stays the cause.
func TestCanceled(t *testing.T) {
	t.Parallel()
	signal := interruption{}
	for name, tt := range map[string]struct{ cause, want error }{
		"an error": {errors.New("target bad: exit code: 3"), context.Canceled}, "a signal": {signal, signal}, "nothing": {nil, context.Canceled},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			each, end := canceled(ctx)
			defer end()
			if each.Err() != nil {
				t.Errorf("%s: it has ended before", name)
			}
			cancel(tt.cause)
			synctest.Wait()
			if got := context.Cause(each); !errors.Is(got, tt.want) || errors.As(got, new(interruption)) != (name == "a signal") {
				t.Errorf("%s: %v, want %v", name, got, tt.want)
			}
		})
	}
}

// interruption is a cancellation with another text.
type interruption struct{}

func (interruption) Error() string        { return "interrupted" }
func (interruption) Is(target error) bool { return target == context.Canceled }
