package s3cache

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/micabuild/mica/internal/objectstorage"
)

// Parts of objects.
const (
	partSize = 8 << 20
	maxParts = 10_000
	maxCopy  = 5 << 30 // bytes that one request copies

	abortTime = 10 * time.Second
)

// put writes an object: in parts, if it is large.
func (c *Cache) put(ctx context.Context, key string, size int64, r io.Reader) error {
	if size > c.part {
		return c.inParts(ctx, key, func(u *upload) error { return u.send(ctx, size, r) })
	}
	return c.sender.Send(ctx, r, size, max(size, 1), func(ctx context.Context, p objectstorage.Part) error {
		return c.ask(ctx, objectstorage.Call{Method: http.MethodPut, Name: key, Body: p.Body}, nil)
	})
}

// upload is an object that is written in parts.
type upload struct {
	c       *Cache
	key, id string

	mu    sync.Mutex
	parts []part
}

type part struct {
	PartNumber int
	ETag       string
}

// inParts writes an object of which add adds the parts.
func (c *Cache) inParts(ctx context.Context, key string, add func(*upload) error) (err error) {
	var made struct{ UploadId string }
	if err := c.ask(ctx, objectstorage.Call{Method: http.MethodPost, Name: key, Query: url.Values{"uploads": {""}}}, &made); err != nil {
		return err
	}
	u := &upload{c: c, key: key, id: made.UploadId}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
			defer cancel()
			_ = c.ask(ctx, objectstorage.Call{Method: http.MethodDelete, Name: key, Query: url.Values{"uploadId": {u.id}}}, nil)
		}
	}()
	if err := add(u); err != nil {
		return err
	}
	slices.SortFunc(u.parts, func(a, b part) int { return a.PartNumber - b.PartNumber })
	list, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Parts   []part   `xml:"Part"`
	}{Parts: u.parts})
	if err != nil {
		return err
	}
	err = c.ask(ctx, objectstorage.Call{Method: http.MethodPost, Name: key, Query: url.Values{"uploadId": {u.id}}, Body: list}, nil)
	var refused *objectstorage.Error
	if errors.As(err, &refused) && refused.Code == "NoSuchUpload" { // the answer to an earlier try was lost
		resp, err := c.service.Send(ctx, objectstorage.Call{Method: http.MethodHead, Name: key})
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	return err
}

func (u *upload) query(number int) url.Values {
	return url.Values{"uploadId": {u.id}, "partNumber": {strconv.Itoa(number)}}
}

func (u *upload) add(number int, tag string) error {
	if tag == "" {
		return fmt.Errorf("part %d has no ETag", number)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts = append(u.parts, part{number, tag})
	return nil
}

// send sends the parts of an object, some of them at the same time.
func (u *upload) send(ctx context.Context, size int64, r io.Reader) error {
	return u.c.sender.Send(ctx, r, size, max(u.c.part, size/maxParts+1), u.part)
}

func (u *upload) part(ctx context.Context, p objectstorage.Part) error {
	resp, err := u.c.service.Send(ctx, objectstorage.Call{Method: http.MethodPut, Name: u.key, Query: u.query(p.Number), Body: p.Body})
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	return u.add(p.Number, resp.Header.Get("ETag"))
}

// touch gives an object the current time: it is copied onto itself.
func (c *Cache) touch(ctx context.Context, key string, size int64) error {
	source := (&url.URL{Path: "/" + c.o.Bucket + "/" + key}).EscapedPath()
	if size < maxCopy {
		return c.ask(ctx, objectstorage.Call{Method: http.MethodPut, Name: key, Header: http.Header{
			"X-Amz-Copy-Source": {source}, "X-Amz-Metadata-Directive": {"REPLACE"},
			"X-Amz-Meta-Updated-At": {time.Now().UTC().Format(time.RFC3339)},
		}}, nil)
	}
	return c.inParts(ctx, key, func(u *upload) error {
		for number, from := 1, int64(0); from < size; number, from = number+1, from+maxCopy {
			var copied struct{ ETag string }
			header := http.Header{
				"X-Amz-Copy-Source": {source}, "X-Amz-Copy-Source-Range": {fmt.Sprintf("bytes=%d-%d", from, min(from+maxCopy, size)-1)},
			}
			if err := c.ask(ctx, objectstorage.Call{Method: http.MethodPut, Name: key, Query: u.query(number), Header: header}, &copied); err != nil {
				return err
			}
			if err := u.add(number, copied.ETag); err != nil {
				return err
			}
		}
		return nil
	})
}
