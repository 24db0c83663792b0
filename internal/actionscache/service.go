package actionscache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"oras.land/oras-go/v2/errdef"
)

// errExists is the error for an entry that another has written, or writes.
var errExists = errors.New("the GitHub Actions cache has this entry")

// entry is what the service returns of a key.
type entry struct{ key, url string }

type keyRequest struct {
	Key         string   `json:"key"`
	RestoreKeys []string `json:"restore_keys,omitempty"`
	SizeBytes   int64    `json:"size_bytes,omitempty"`
	Version     string   `json:"version"`
}

// find returns the newest entry whose key begins with a text. The error is errdef.ErrNotFound if there is no such entry.
func (c *Cache) find(ctx context.Context, key string) (*entry, error) {
	var got struct {
		OK  bool   `json:"ok"`
		URL string `json:"signed_download_url"`
		Key string `json:"matched_key"`
	}
	err := c.call(ctx, "GetCacheEntryDownloadURL", keyRequest{Key: key, RestoreKeys: []string{key}, Version: keyVersion()}, &got)
	if err != nil {
		return nil, err
	}
	if !got.OK || !strings.HasPrefix(got.Key, key) {
		return nil, fmt.Errorf("%s: %w", key, errdef.ErrNotFound)
	}
	return &entry{got.Key, got.URL}, nil
}

// save writes an entry. The error is errExists if there is one.
func (c *Cache) save(ctx context.Context, key string, size int64, r io.Reader) error {
	var made struct {
		OK  bool   `json:"ok"`
		URL string `json:"signed_upload_url"`
	}
	if err := c.call(ctx, "CreateCacheEntry", keyRequest{Key: key, Version: keyVersion()}, &made); err != nil {
		return err
	}
	if !made.OK {
		return fmt.Errorf("%s: the GitHub Actions cache does not take the entry", key)
	}
	if err := c.upload(ctx, made.URL, size, r); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	var done struct {
		OK bool `json:"ok"`
	}
	if err := c.call(ctx, "FinalizeCacheEntryUpload", keyRequest{Key: key, SizeBytes: size, Version: keyVersion()}, &done); err != nil {
		return err
	}
	if !done.OK {
		return fmt.Errorf("%s: the GitHub Actions cache does not keep the entry", key)
	}
	return nil
}

// maxAnswer limits an answer of the service, in bytes.
const maxAnswer = 32 << 10

// call calls a method of the service.
func (c *Cache) call(ctx context.Context, method string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	at := strings.TrimRight(c.o.URL, "/") + "/twirp/github.actions.results.api.v1.CacheService/" + method
	resp, err := c.send(ctx, http.MethodPost, at, raw, map[string]string{"Authorization": "Bearer " + c.o.Token, "Content-Type": "application/json"})
	if err != nil {
		return fmt.Errorf("GitHub Actions cache: %s: %w", method, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("GitHub Actions cache: %s: %w", method, err)
	}
	return nil
}

// send sends a request, and returns the error of a response that refuses it. Signed URLs are not in the error.
func (c *Cache) send(ctx context.Context, method, at string, body []byte, header map[string]string) (*http.Response, error) {
	req, err := newRequest(ctx, method, at, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := c.o.Objects.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, refusal(resp)
}

func newRequest(ctx context.Context, method, at string, body []byte) (*http.Request, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, at, r)
	if err != nil {
		return nil, errors.New("invalid URL")
	}
	return req, nil
}

// refusal reads the error of a response: Twirp's JSON, or else its status.
func refusal(resp *http.Response) error {
	var e struct{ Code, Msg string }
	_ = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&e)
	switch {
	case e.Code == "already_exists":
		return errExists
	case e.Code == "not_found" || resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s: %w", resp.Status, errdef.ErrNotFound)
	case e.Msg != "":
		return fmt.Errorf("%s: %.500q", resp.Status, e.Msg)
	}
	return errors.New(resp.Status)
}
