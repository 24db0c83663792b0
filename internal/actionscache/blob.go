package actionscache

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/registry"
)

// Blocks of an Azure blob: an upload holds one in memory.
const (
	minBlock  = 4 << 20
	maxBlocks = 50_000
)

// download reads the blob of an entry. A download that breaks off asks for another signed URL: they are valid for a short time.
func (c *Cache) download(ctx context.Context, d ocispec.Descriptor, e *entry) (io.ReadCloser, error) {
	return c.o.Objects.Open(ctx, registry.Object{
		Descriptor: d,
		Request: func(ctx context.Context, header http.Header) (*http.Request, error) {
			at := e
			if e == nil {
				var err error
				if at, err = c.findBlob(ctx, d); err != nil {
					return nil, err
				}
			}
			e = nil
			req, err := newRequest(ctx, http.MethodGet, at.url, nil)
			if err == nil {
				maps.Copy(req.Header, header)
			}
			return req, err
		},
		Refused: refusal,
	})
}

// upload writes the blob of a signed URL, block by block.
func (c *Cache) upload(ctx context.Context, at string, size int64, r io.Reader) error {
	u, err := url.Parse(at)
	if err != nil {
		return errors.New("the service returns an invalid URL")
	}
	block := make([]byte, min(max(minBlock, size/maxBlocks+1), size+1))
	var list strings.Builder
	list.WriteString(`<?xml version="1.0" encoding="utf-8"?><BlockList>`)
	for i := 0; ; i++ {
		n, err := io.ReadFull(r, block)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return err
		}
		if n > 0 {
			id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", i))
			if err := c.put(ctx, u, url.Values{"comp": {"block"}, "blockid": {id}}, block[:n]); err != nil {
				return err
			}
			list.WriteString("<Latest>" + id + "</Latest>")
		}
		if err != nil {
			break
		}
	}
	list.WriteString("</BlockList>")
	return c.put(ctx, u, url.Values{"comp": {"blocklist"}}, []byte(list.String()))
}

func (c *Cache) put(ctx context.Context, at *url.URL, query url.Values, body []byte) error {
	u := *at
	u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+query.Encode(), "&")
	resp, err := c.send(ctx, http.MethodPut, u.String(), body, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
