package registry

import (
	"context"
	"io"
	"time"
)

// A large blob is read in ranges over several connections, where the registry knows ranges and one connection turns out to
// be slow: it often is slower than the line. Where it is fast, ranges only cost the registry time. They are put together
// in memory, in order.
const (
	minRanges  = 64 << 20 // less than that comes over one connection
	rangeSize  = 4 << 20
	rangeConns = 4 // connections to one blob

	// One connection is slow when trialSize bytes keep their reader waiting for longer than trialWait: 100 MiB/s.
	trialSize = 8 << 20
	trialWait = 80 * time.Millisecond
)

// rangeBuffers are the buffers of all blobs together; one that is nil is still to be made. A blob asks for its ranges in
// order, so that the one that it waits for always has a buffer.
var rangeBuffers = func() chan []byte {
	const count = 8
	c := make(chan []byte, count)
	for range count {
		c <- nil
	}
	return c
}()

// rangesReader reads a span over one connection, and from where that is slow on in ranges.
type rangesReader struct {
	whole  *spanReader
	single bool          // the registry does not know ranges
	came   int           // bytes of the trial under way
	waited time.Duration // for these
	ctx    context.Context
	cancel context.CancelFunc
	order  chan chan piece
	cur    []byte // what is left of buf
	buf    []byte // one of rangeBuffers, or nil
	err    error
}

// piece is a range that has come.
type piece struct {
	data []byte
	err  error
}

func (r *rangesReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.order == nil {
		if r.single || !r.slow() {
			return r.readWhole(p)
		}
		r.whole.disconnect()
		r.err = r.start()
		return 0, r.err
	}
	for len(r.cur) == 0 {
		r.release()
		next, ok := <-r.order
		if !ok {
			r.err = io.EOF
			return 0, r.err
		}
		got := <-next
		r.cur, r.buf = got.data, got.data
		if got.err != nil {
			r.cur, r.err = nil, got.err
			return 0, r.err
		}
	}
	n := copy(p, r.cur)
	r.cur = r.cur[n:]
	return n, nil
}

// readWhole reads over one connection, and takes the time.
func (r *rangesReader) readWhole(p []byte) (int, error) {
	if r.came >= trialSize {
		r.came, r.waited = 0, 0
	}
	before := time.Now()
	n, err := r.whole.Read(p)
	r.came, r.waited = r.came+n, r.waited+time.Since(before)
	return n, err
}

// slow reports whether ranges are worth a try.
func (r *rangesReader) slow() bool {
	return r.came >= trialSize && r.waited > trialWait && r.whole.to-r.whole.from >= minRanges
}

func (r *rangesReader) release() {
	if r.buf != nil {
		rangeBuffers <- r.buf
		r.buf = nil
	}
}

// start requests the first range. The response shows whether the registry supports ranges.
func (r *rangesReader) start() error {
	r.ctx, r.cancel = context.WithCancel(r.whole.ctx)
	first := *r.whole
	first.ctx = r.ctx
	first.to = first.from + rangeSize
	var got span
	open := first.open
	first.open = func(ctx context.Context, s span) (io.ReadCloser, span, error) {
		body, have, err := open(ctx, s)
		got = have
		return body, have, err
	}
	if err := first.connect(); err != nil {
		return err
	}
	if got.to > first.to {
		// It sends the whole: that is what is read then.
		first.open, first.to = open, r.whole.to
		*r.whole = first
		r.single = true
		return nil
	}
	first.open = open
	r.order = make(chan chan piece, rangeConns-1)
	go r.plan(&first)
	return nil
}

// plan starts the ranges, in order, as far as there is room.
func (r *rangesReader) plan(first *spanReader) {
	defer close(r.order)
	next := first
	for from := r.whole.from; from < r.whole.to; from += rangeSize {
		if next == nil {
			next = &spanReader{ctx: r.ctx, open: r.whole.open, backoff: r.whole.backoff, span: span{from, min(from+rangeSize, r.whole.to)}}
		}
		done := make(chan piece, 1)
		var buf []byte
		select {
		case buf = <-rangeBuffers:
		case <-r.ctx.Done():
			next.disconnect()
			return
		}
		if buf == nil {
			buf = make([]byte, rangeSize)
		}
		go fetchRange(next, buf[:rangeSize], done)
		select {
		case r.order <- done:
		case <-r.ctx.Done():
			rangeBuffers <- (<-done).data
			return
		}
		next = nil
	}
}

func fetchRange(s *spanReader, buf []byte, done chan<- piece) {
	defer s.disconnect()
	data := buf[:s.to-s.from]
	_, err := io.ReadFull(s, data)
	done <- piece{data, err}
}

func (r *rangesReader) Close() error {
	if r.cancel != nil {
		r.cancel()
	}
	if r.order != nil {
		r.release()
		for next := range r.order {
			rangeBuffers <- (<-next).data
		}
	}
	return r.whole.Close()
}
