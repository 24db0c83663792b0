// Package dirsync receives the files of a client's directory, as fsutil sends them, and keeps them between builds: only what has changed is sent
// then.
//
// The client first sends the metadata of all its files (STAT), in the order of their paths. The receiver asks for the content of those that it
// does not have (REQ), and the client answers with their bytes (DATA), several files at once. Both end with FIN.
//
// The files are not made as files: to create, read and remove 50,000 of them takes seconds. Their metadata and digests are in one file, the
// index, their contents one after another in others, which are written once. Only a large file has one of its own. The index is replaced at the
// end of a transfer: one that is interrupted leaves what was there before. docs/store.md describes the files.
package dirsync

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tonistiigi/fsutil/types"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
)

// Stream is a stream of types.Packet to and from the client.
type Stream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// Options are what a transfer needs.
type Options struct {
	// Dir is the directory where the files are kept. Nothing else uses it meanwhile, nor while they are read.
	Dir string
	// Temp, if it is set, makes an empty directory in place of Dir for files that are not kept. It is called unless they are few and small.
	Temp func() (string, error)
	// File is called with the metadata of each file that the client has, in the order of their paths. If it returns true, the file is sent even
	// if one with the same metadata is kept.
	File func(st *types.Stat) bool
	// Progress is called with the bytes that have arrived so far, and at the end with done.
	Progress func(bytes int, done bool)
}

// Receive returns the files that the client has now. Owners and extended attributes of files are not kept.
func Receive(ctx context.Context, stream Stream, opt Options) (*Files, error) {
	var kept []record
	if opt.Temp == nil {
		var err error
		if kept, err = load(opt.Dir); err != nil {
			return nil, err
		}
	}
	r := &receiver{opt: opt, stream: stream, list: newList(kept), contents: newContents(opt, kept), requests: newRequests()}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(crash.Guard(func() error { return r.answer(ctx) }))
	g.Go(crash.Guard(r.receive))
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, r.contents.discard())
	}
	return &Files{records: r.list.files, dir: r.contents.dir, memory: r.contents.buffer, inMemory: r.contents.id}, nil
}

// receiver is one transfer.
type receiver struct {
	opt      Options
	stream   Stream
	list     *list
	contents *contents
	requests *requests

	pending map[uint32]*incoming // the files that were asked for, by their number among those of the client
	files   uint32
	bytes   int
	walked  bool
}

// receive takes what the client sends, until it has sent its FIN and closed the stream.
func (r *receiver) receive() error {
	defer func() { r.opt.Progress(r.bytes, true) }()
	r.pending = map[uint32]*incoming{}
	var p types.Packet
	for {
		p.ResetVT()
		if err := r.stream.RecvMsg(&p); err != nil {
			return err
		}
		r.bytes += p.SizeVT()
		r.opt.Progress(r.bytes, false)
		var err error
		switch p.Type {
		case types.PACKET_ERR:
			err = fmt.Errorf("error from sender: %s", p.Data)
		case types.PACKET_STAT:
			err = r.stat(p.Stat)
		case types.PACKET_DATA:
			err = r.data(p.ID, p.Data)
		case types.PACKET_FIN:
			return r.end()
		}
		if err != nil {
			return err
		}
	}
}

// end waits until the client has closed the stream.
func (r *receiver) end() error {
	for {
		if err := r.stream.RecvMsg(&types.Packet{}); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// stat takes the metadata of one file; nil after the last.
func (r *receiver) stat(st *types.Stat) error {
	if st == nil {
		if r.walked {
			return errors.New("the client ends its list of files twice")
		}
		r.walked = true
		r.requests.arrived()
		return nil
	}
	id := r.files
	r.files++
	if r.walked || id == ^uint32(0) {
		return fmt.Errorf("the client sends the metadata of %q after that of its last file", st.Path)
	}
	again := r.opt.File(st)
	wanted, err := r.list.add(st, again)
	if err != nil || !wanted {
		return err
	}
	r.pending[id] = &incoming{record: len(r.list.files) - 1}
	r.requests.add(id)
	return nil
}

// data takes a part of a file, or its end.
func (r *receiver) data(id uint32, data []byte) error {
	f, ok := r.pending[id]
	if !ok {
		return fmt.Errorf("the client sends file %d, which it was not asked for", id)
	}
	if len(data) > 0 {
		return r.contents.write(f, data)
	}
	delete(r.pending, id)
	content, err := r.contents.end(f)
	if err != nil {
		return err
	}
	r.list.files[f.record].content = content
	r.requests.arrived()
	return nil
}

// answer asks for files until all have arrived, keeps them, and ends the transfer. Only it sends: the client reads its requests while it sends,
// and this receiver what the client sends while it asks.
func (r *receiver) answer(ctx context.Context) error {
	err := r.requests.each(ctx, func(id uint32) error {
		return r.stream.SendMsg(&types.Packet{Type: types.PACKET_REQ, ID: id})
	})
	if err == nil {
		err = r.keep()
	}
	if err == nil {
		return r.stream.SendMsg(&types.Packet{Type: types.PACKET_FIN})
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	_ = r.stream.SendMsg(&types.Packet{Type: types.PACKET_ERR, Data: []byte(err.Error())}) // the error is returned, too
	return err
}

// keep writes the index, unless the client has nothing else than before.
func (r *receiver) keep() error {
	if r.opt.Temp != nil {
		return r.contents.complete()
	}
	if !r.list.differs() {
		return nil
	}
	if err := r.contents.finish(r.list.files); err != nil {
		return err
	}
	if err := writeIndex(r.opt.Dir, r.list.files); err != nil {
		return err
	}
	r.contents.made = nil // they are kept, also if the client has gone
	return removeUnused(r.opt.Dir, r.list.files)
}
