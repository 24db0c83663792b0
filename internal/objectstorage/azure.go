package objectstorage

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"io"
	"net/url"
)

// Limits of block blobs (Azure REST API, Put Block).
const (
	minBlock  = 8 << 20
	maxBlocks = 50_000
)

// blockID has the length of those of Azure's own library: all blocks of a blob need IDs of one length, also those that an interrupted upload has left.
type blockID [64]byte

// PutBlocks writes a block blob of Azure: its blocks, several at the same time, and then their list. put sends one request of them.
func PutBlocks(ctx context.Context, s *Sender, r io.Reader, size int64, put func(context.Context, url.Values, []byte) error) error {
	var id blockID
	_, _ = rand.Read(id[:16]) // others that write the blob at the same time have other blocks
	encoded := func(number int) string {
		id := id
		binary.BigEndian.PutUint32(id[16:], uint32(number))
		return base64.StdEncoding.EncodeToString(id[:])
	}
	length := max(minBlock, size/maxBlocks+1)
	err := s.Send(ctx, r, size, length, func(ctx context.Context, p Part) error {
		if len(p.Body) == 0 { // an empty blob has no blocks
			return nil
		}
		return put(ctx, url.Values{"comp": {"block"}, "blockid": {encoded(p.Number)}}, p.Body)
	})
	if err != nil {
		return err
	}
	list := struct {
		XMLName xml.Name `xml:"BlockList"`
		Latest  []string
	}{}
	for number := 1; int64(number-1)*length < size; number++ {
		list.Latest = append(list.Latest, encoded(number))
	}
	raw, err := xml.Marshal(list)
	if err != nil {
		return err
	}
	return put(ctx, url.Values{"comp": {"blocklist"}}, append([]byte(xml.Header), raw...))
}
