package grpcserver

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// frames finds the content of messages in what a client sends over HTTP/2: the payloads of DATA frames (RFC 9113, section 4.1).
type frames struct {
	skip   int  // bytes of the preface, or of the payload of a frame, that are to come
	data   bool // whether they are of a DATA frame
	header [9]byte
	have   int // bytes of the header
}

func newFrames() frames { return frames{skip: len(http2.ClientPreface)} }

// skim reads what follows, and returns how many bytes of DATA frames are in it.
func (f *frames) skim(p []byte) (data int64) {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(p))
			if f.data {
				data += int64(n)
			}
			f.skip -= n
			p = p[n:]
			continue
		}
		n := copy(f.header[f.have:], p)
		f.have += n
		p = p[n:]
		if f.have == len(f.header) {
			f.have = 0
			f.skip = int(binary.BigEndian.Uint32(f.header[:4]) >> 8)
			f.data = http2.FrameType(f.header[3]) == http2.FrameData
		}
	}
	return data
}
