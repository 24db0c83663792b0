// Package objectstorage is what the clients of object storage have in common: requests for objects, blobs that are sent in parts, and the errors of services.
package objectstorage

import (
	"context"
	"errors"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
)

// Sender sends parts of blobs, and limits how many are in memory and sent at the same time. It is safe for concurrent use.
type Sender struct {
	buffers chan []byte // of parts that are not sent now
}

// NewSender returns a Sender of a number of parts at the same time.
func NewSender(parallel int) *Sender {
	s := &Sender{buffers: make(chan []byte, max(parallel, 1))}
	for range cap(s.buffers) {
		s.buffers <- nil
	}
	return s
}

// Part is a part of a blob. Body is valid until it is sent.
type Part struct {
	Number int // from 1
	Body   []byte
}

// Send reads a blob, and sends its parts of a length. A blob without bytes is one part. The last part is sent after the end of r, where its digest is verified.
func (s *Sender) Send(ctx context.Context, r io.Reader, size, length int64, send func(context.Context, Part) error) error {
	eg, egctx := errgroup.WithContext(ctx)
	for number := 1; number == 1 || size > 0; number++ {
		buf, err := s.buffer(egctx)
		if err != nil {
			break // as the group says
		}
		n := min(length, size)
		buf = slices.Grow(buf[:0], int(n))
		if err := read(r, buf[:n], n == size); err != nil {
			s.buffers <- buf
			return errors.Join(err, eg.Wait())
		}
		size -= n
		eg.Go(crash.Guard(func() error {
			defer func() { s.buffers <- buf }()
			return send(egctx, Part{number, buf[:n]})
		}))
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// buffer waits for the turn of a part, and returns the buffer of an earlier one.
func (s *Sender) buffer(ctx context.Context) ([]byte, error) {
	select {
	case buf := <-s.buffers:
		return buf, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// read reads a part, and the end after the last one.
func read(r io.Reader, p []byte, last bool) error {
	if _, err := io.ReadFull(r, p); err != nil {
		return err
	}
	if !last {
		return nil
	}
	_, err := io.ReadFull(r, make([]byte, 1))
	switch {
	case err == nil:
		return errors.New("it is longer than its size")
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}
