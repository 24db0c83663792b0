package registry

import (
	"context"
	"errors"
	"io"
)

// A large blob is read in ranges over several connections, where the registry knows ranges: one connection is often slower
// than the line. The ranges are put together in memory, in order.
const (
	minRanges  = 64 << 20 // smaller blobs come over one connection
	rangeSize  = 4 << 20
	rangeConns = 4 // connections to one blob
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

// rangesReader reads a span in ranges.
type rangesReader struct {
	whole  *spanReader
	single bool // the registry does not know ranges
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
	if r.order == nil && !r.single && r.err == nil {
		r.err = r.start()
	}
	if r.err != nil {
		return 0, r.err
	}
	if r.single {
		return r.whole.Read(p)
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

func (r *rangesReader) release() {
	if r.buf != nil {
		rangeBuffers <- r.buf
		r.buf = nil
	}
}

// start asks for the first range: the answer tells whether there are ranges.
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
			next = &spanReader{ctx: r.ctx, open: r.whole.open, span: span{from, min(from+rangeSize, r.whole.to)}}
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
	return errors.Join(r.whole.Close())
}
