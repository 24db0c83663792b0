package actionscache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/version"
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
	if err := upload(ctx, made.URL, size, r); err != nil {
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
	resp, err := send(ctx, http.MethodPost, at, raw, map[string]string{"Authorization": "Bearer " + c.o.Token, "Content-Type": "application/json"})
	if err != nil {
		return fmt.Errorf("GitHub Actions cache: %s: %w", method, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("GitHub Actions cache: %s: %w", method, err)
	}
	return nil
}

// client follows no redirects: neither the service nor its storage sends any.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// What is tried again, and how often.
const (
	maxTries  = 5
	firstWait = 250 * time.Millisecond
	maxWait   = 8 * time.Second
)

// send sends a request until the answer is no failure that passes. Signed URLs are not in the error.
func send(ctx context.Context, method, at string, body []byte, header map[string]string) (*http.Response, error) {
	wait := firstWait
	for try := 1; ; try++ {
		resp, again, err := sendOnce(ctx, method, at, body, header)
		if err == nil || !again || try == maxTries {
			return resp, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		wait = min(2*wait, maxWait)
	}
}

func sendOnce(ctx context.Context, method, at string, body []byte, header map[string]string) (_ *http.Response, again bool, _ error) {
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, false, errors.New("invalid URL")
	}
	req.Header.Set("User-Agent", "mica/"+version.String())
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // which would repeat the URL
		}
		return nil, ctx.Err() == nil, err
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp, false, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError, refusal(resp)
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
