package transfer

import (
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
)

// State is the state of a layer.
type State int

// The states of a layer.
const (
	Waiting State = iota
	Downloading
	Uploading
	Retrying
	Exists  // at the destination
	Mounted // the registry took it from another repository
	Done
)

// Event is the progress of a layer. Bytes count from the start of its blob. Total is 0 if it is unknown.
type Event struct {
	Layer       digest.Digest
	State       State
	Done, Total int64
	From        string // Mounted: the repository
}

// Progress receives events. It is called from several goroutines.
type Progress func(Event)

type reader = io.Reader

// eventEvery is the number of bytes between two events.
const eventEvery = 512 << 10

// progressReader reads its parts one after the other and reports its progress.
type progressReader struct {
	parts []reader
	event Event
	send  Progress
	read  int64
	sent  int64
	err   error // of the parts, not of the reader's user
}

func (p *progressReader) Read(b []byte) (int, error) {
	for len(p.parts) > 0 {
		n, err := p.parts[0].Read(b)
		p.read += int64(n)
		if p.read-p.sent >= eventEvery || err != nil {
			p.sent = p.read
			e := p.event
			e.Done = p.read
			p.send(e)
		}
		if errors.Is(err, io.EOF) {
			p.parts = p.parts[1:]
			err = nil
		}
		if n > 0 || err != nil {
			p.err = err
			return n, err
		}
	}
	return 0, io.EOF
}
