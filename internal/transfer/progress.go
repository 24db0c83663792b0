package transfer

import (
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
)

// State is what happens to a layer.
type State int

// The states of a layer on its way.
const (
	Waiting State = iota
	Downloading
	Uploading
	Retrying
	Exists  // it is where it is to go
	Mounted // the registry took it from another repository
	Done
)

// Event tells how far a layer is. Bytes count from the start of its blob; Total is 0 where it is not known.
type Event struct {
	Layer       digest.Digest
	State       State
	Done, Total int64
	From        string // Mounted: the repository
}

// Progress is told of events, from several goroutines.
type Progress func(Event)

type reader = io.Reader

// tellEvery is how many bytes pass between two events.
const tellEvery = 512 << 10

// progressReader reads its parts one after the other and reports its progress.
type progressReader struct {
	parts []reader
	event Event
	tell  Progress
	read  int64
	told  int64
	err   error // of reading, not of who reads
}

func (p *progressReader) Read(b []byte) (int, error) {
	for len(p.parts) > 0 {
		n, err := p.parts[0].Read(b)
		p.read += int64(n)
		if p.read-p.told >= tellEvery || err != nil {
			p.told = p.read
			e := p.event
			e.Done = p.read
			p.tell(e)
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
