package azurecache

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/micabuild/mica/internal/objectstorage"
)

// version is that of the REST API.
const version = "2021-12-02"

// sign makes a request with its credentials.
func (c *Cache) sign(ctx context.Context, r objectstorage.Call) (*http.Request, error) {
	at := c.base
	if r.Name != "" {
		at.Path += "/" + r.Name
	}
	query := url.Values{}
	if len(c.key) == 0 {
		query = at.Query()
	}
	maps.Copy(query, r.Query)
	at.RawQuery = query.Encode()
	var body io.Reader
	if r.Body != nil {
		body = bytes.NewReader(r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, at.String(), body)
	if err != nil {
		return nil, errors.New("invalid URL")
	}
	if r.Header != nil {
		req.Header = r.Header.Clone()
	}
	req.Header.Set("X-Ms-Version", version)
	req.Header.Set("X-Ms-Date", time.Now().UTC().Format(http.TimeFormat))
	if len(c.key) > 0 {
		req.Header.Set("Authorization", "SharedKey "+c.o.Account+":"+signature(c.key, textToSign(req, c.o.Account)))
	}
	return req, nil
}

func signature(key []byte, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// textToSign is the text of a request that its signature covers (Azure REST API, Authorize with Shared Key).
func textToSign(req *http.Request, account string) string {
	length := ""
	if req.ContentLength > 0 {
		length = strconv.FormatInt(req.ContentLength, 10)
	}
	lines := []string{req.Method}
	for _, k := range []string{
		"Content-Encoding", "Content-Language", "Content-Length", "Content-Md5", "Content-Type", "Date", "If-Modified-Since", "If-Match",
		"If-None-Match", "If-Unmodified-Since", "Range",
	} {
		if k == "Content-Length" {
			lines = append(lines, length)
			continue
		}
		lines = append(lines, req.Header.Get(k))
	}
	for _, k := range slices.Sorted(maps.Keys(req.Header)) {
		if name := strings.ToLower(k); strings.HasPrefix(name, "x-ms-") {
			lines = append(lines, name+":"+req.Header.Get(k))
		}
	}
	lines = append(lines, "/"+account+cmp.Or(req.URL.EscapedPath(), "/"))
	query := req.URL.Query()
	for _, k := range slices.Sorted(maps.Keys(query)) {
		lines = append(lines, strings.ToLower(k)+":"+strings.Join(query[k], ","))
	}
	return strings.Join(lines, "\n")
}

// done sends a request whose response says nothing.
func (c *Cache) done(ctx context.Context, r objectstorage.Call) error {
	resp, err := c.service.Send(ctx, r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// maxRefusal limits the body of an error, in bytes.
const maxRefusal = 1 << 20

// refusal reads the error of a response. One to HEAD has its code in a header.
func refusal(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	if err := objectstorage.ParseError(resp.Status, raw); err != nil {
		return err
	}
	if code := resp.Header.Get("X-Ms-Error-Code"); code != "" {
		return &objectstorage.Error{Status: resp.Status, Code: code}
	}
	return errors.New(resp.Status)
}
