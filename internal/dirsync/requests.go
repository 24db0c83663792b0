package dirsync

import (
	"context"
	"sync"
)

// requests are the files that the client is to send. They are queued without a limit other than the number of files: who waits for the client
// to take a request must not keep it from sending.
type requests struct {
	mu    sync.Mutex
	ids   []uint32
	left  int // requests that are not answered, and one for the list of files
	added chan struct{}
}

func newRequests() *requests { return &requests{left: 1, added: make(chan struct{}, 1)} }

func (q *requests) add(id uint32) {
	q.mu.Lock()
	q.ids, q.left = append(q.ids, id), q.left+1
	q.mu.Unlock()
	q.wake()
}

// arrived counts a file that is complete, or the end of the list.
func (q *requests) arrived() {
	q.mu.Lock()
	q.left--
	last := q.left == 0
	q.mu.Unlock()
	if last {
		q.wake()
	}
}

func (q *requests) wake() {
	select {
	case q.added <- struct{}{}:
	default:
	}
}

// each calls f for each request, until all files have arrived.
func (q *requests) each(ctx context.Context, f func(id uint32) error) error {
	for {
		q.mu.Lock()
		ids, left := q.ids, q.left
		q.ids = nil
		q.mu.Unlock()
		for _, id := range ids {
			if err := f(id); err != nil {
				return err
			}
		}
		if left == 0 {
			return nil
		}
		if len(ids) > 0 {
			continue
		}
		select {
		case <-q.added:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
