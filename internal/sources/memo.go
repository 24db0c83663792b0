package sources

import (
	"context"
	"errors"
	"sync"
)

// errPanicked is the error of a function that did not return.
var errPanicked = errors.New("it did not end")

// memo has the result of a function by a key. Errors are not remembered. It is safe for concurrent use.
type memo[T any] struct {
	mu      sync.Mutex
	entries map[string]*memoEntry[T]
}

type memoEntry[T any] struct {
	done  chan struct{}
	value T
	err   error
}

// do returns what f returned for the key before, or calls it. Calls for one key wait for each other.
func (m *memo[T]) do(ctx context.Context, key string, f func() (T, error)) (none T, err error) {
	for {
		m.mu.Lock()
		e, ok := m.entries[key]
		if !ok {
			e = &memoEntry[T]{done: make(chan struct{})}
			if m.entries == nil {
				m.entries = map[string]*memoEntry[T]{}
			}
			m.entries[key] = e
			m.mu.Unlock()
			return m.fill(key, e, f)
		}
		m.mu.Unlock()
		select {
		case <-e.done:
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
		if e.err == nil {
			return e.value, nil
		}
	}
}

func (m *memo[T]) fill(key string, e *memoEntry[T], f func() (T, error)) (T, error) {
	e.err = errPanicked
	defer func() {
		if e.err != nil {
			m.mu.Lock()
			delete(m.entries, key)
			m.mu.Unlock()
		}
		close(e.done)
	}()
	e.value, e.err = f()
	return e.value, e.err
}
