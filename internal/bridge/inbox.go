package bridge

import (
	"context"
	"io"
	"sync"
)

// maxInput is how much input of a process waits to be read, in bytes, before the messages of all processes wait.
const maxInput = 1 << 20

// inbox is the input of a process. Messages are kept in it so that a process that does not read does not keep others from getting
// theirs.
type inbox struct {
	mu     sync.Mutex
	change *sync.Cond
	data   [][]byte
	size   int
	ended  bool // there is no more
	closed bool // it is not read any more
}

// newInbox returns an inbox that is closed with ctx.
func newInbox(ctx context.Context) *inbox {
	b := &inbox{}
	b.change = sync.NewCond(&b.mu)
	context.AfterFunc(ctx, b.close)
	return b
}

// put adds input. It waits if there is much.
func (b *inbox) put(data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.size >= maxInput && !b.closed {
		b.change.Wait()
	}
	if b.closed || b.ended || len(data) == 0 {
		return
	}
	b.data, b.size = append(b.data, data), b.size+len(data)
	b.change.Broadcast()
}

// end is the end of the input.
func (b *inbox) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.change.Broadcast()
}

// close ends the inbox of a process that has ended, and drops what it has not read. A nil inbox can be closed.
func (b *inbox) close() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.data, b.size = true, nil, 0
	b.change.Broadcast()
}

// Read waits for input.
func (b *inbox) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.data) == 0 && !b.ended && !b.closed {
		b.change.Wait()
	}
	if b.closed || len(b.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.data[0])
	if b.data[0] = b.data[0][n:]; len(b.data[0]) == 0 {
		b.data = b.data[1:]
	}
	b.size -= n
	b.change.Broadcast()
	return n, nil
}

// Close ends the reading.
func (b *inbox) Close() error {
	b.close()
	return nil
}
