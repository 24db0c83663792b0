package s3cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/objectstorage"
)

// call is a request of the service.
type call struct {
	method, key string
	query       url.Values
	header      http.Header
	body        []byte
}

// request signs a request (Amazon S3 API Reference, Authenticating Requests, Signature Version 4).
func (c *Cache) request(ctx context.Context, r call) (*http.Request, error) {
	keys, err := c.o.Keys.GetWithContext(&credentials.CredContext{Client: metadataClient, Context: ctx})
	if err != nil {
		return nil, fmt.Errorf("credentials for S3: %w", err)
	}
	if keys.AccessKeyID == "" {
		return nil, errNoKeys
	}
	at := c.base
	at.Path += "/" + r.key
	at.RawPath = s3utils.EncodePath(at.Path) // as it is signed
	at.RawQuery = r.query.Encode()
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, at.String(), body)
	if err != nil {
		return nil, errors.New("invalid URL")
	}
	if r.header != nil {
		req.Header = r.header.Clone()
	}
	sum := sha256.Sum256(r.body)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	return signer.SignV4(*req, keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken, c.o.Region), nil
}

// errNoKeys is the error where no credentials are found.
var errNoKeys = errors.New("no credentials for S3: set access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of ~/.aws")

// send sends a request, and returns the error of a response that refuses it.
func (c *Cache) send(ctx context.Context, r call) (*http.Response, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
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

// maxAnswer limits an answer of the service, in bytes.
const maxAnswer = 1 << 20

// ask sends a request whose answer is XML, read into out unless that is nil. An answer may begin well and have an error then.
func (c *Cache) ask(ctx context.Context, r call, out any) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if err := objectstorage.ParseError(resp.Status, raw); err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := xml.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("invalid answer: %w", err)
	}
	return nil
}

// refusal reads the error of a response. One to HEAD has only a status.
func refusal(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err := objectstorage.ParseError(resp.Status, raw); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusNotFound && resp.Request.Method == http.MethodHead {
		return fmt.Errorf("%s: %w", resp.Status, errdef.ErrNotFound)
	}
	return errors.New(resp.Status)
}
