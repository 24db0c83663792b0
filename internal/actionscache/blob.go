package actionscache

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Blocks of an Azure blob: an upload holds one in memory.
const (
	minBlock  = 4 << 20
	maxBlocks = 50_000
)

// download reads the blob of a signed URL.
func download(ctx context.Context, at string) (io.ReadCloser, error) {
	resp, err := send(ctx, http.MethodGet, at, nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// upload writes the blob of a signed URL, block by block.
func upload(ctx context.Context, at string, size int64, r io.Reader) error {
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
			if err := put(ctx, u, url.Values{"comp": {"block"}, "blockid": {id}}, block[:n]); err != nil {
				return err
			}
			list.WriteString("<Latest>" + id + "</Latest>")
		}
		if err != nil {
			break
		}
	}
	list.WriteString("</BlockList>")
	return put(ctx, u, url.Values{"comp": {"blocklist"}}, []byte(list.String()))
}

func put(ctx context.Context, at *url.URL, query url.Values, body []byte) error {
	u := *at
	u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+query.Encode(), "&")
	resp, err := send(ctx, http.MethodPut, u.String(), body, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
