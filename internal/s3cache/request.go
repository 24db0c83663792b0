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

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/objectstorage"
)

// sign makes a request with its signature (Amazon S3 API Reference, Authenticating Requests, Signature Version 4).
func (c *Cache) sign(ctx context.Context, r objectstorage.Call) (*http.Request, error) {
	keys, err := c.o.Keys.GetWithContext(&credentials.CredContext{Client: metadataClient, Context: ctx})
	if err != nil {
		return nil, fmt.Errorf("credentials for S3: %w", err)
	}
	if keys.AccessKeyID == "" {
		return nil, errNoKeys
	}
	at := c.base
	at.Path += "/" + r.Name
	at.RawPath = s3utils.EncodePath(at.Path) // as it is signed
	at.RawQuery = r.Query.Encode()
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
	sum := sha256.Sum256(r.Body)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	return signer.SignV4(*req, keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken, c.o.Region), nil
}

// errNoKeys is the error where no credentials are found.
var errNoKeys = errors.New("no credentials for S3: set access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of ~/.aws")

// maxAnswer limits an answer of the service, in bytes.
const maxAnswer = 1 << 20

// ask sends a request whose answer is XML, read into out unless that is nil. An answer may begin well and have an error then.
func (c *Cache) ask(ctx context.Context, r objectstorage.Call, out any) error {
	resp, err := c.service.Send(ctx, r)
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
