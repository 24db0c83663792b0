package control

import (
	"context"
	"io"
	"net/http"

	"github.com/moby/buildkit/session/upload"

	"github.com/micabuild/mica/internal/quota"
)

// uploadHost is the host of the URLs by which a client names what it sends itself: a Dockerfile or a context from its stdin.
const uploadHost = "buildkit-session"

// http returns a client of web servers, and of what the client of the build sends.
func (c *sessionClient) http() *http.Client { return &http.Client{Transport: &uploads{c}} }

type uploads struct{ client *sessionClient }

// RoundTrip sends a request.
func (u *uploads) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != uploadHost {
		return http.DefaultTransport.RoundTrip(req)
	}
	resp := &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, ContentLength: -1, Request: req}
	if req.Method != http.MethodGet {
		resp.StatusCode, resp.Status = http.StatusMethodNotAllowed, "405 Method Not Allowed"
		return resp, nil
	}
	caller, err := u.client.caller(req.Context())
	if err != nil {
		return nil, err
	}
	limit, err := quota.New()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(req.Context())
	up, err := upload.New(ctx, caller, req.URL)
	if err != nil {
		cancel()
		return nil, err
	}
	r, w := io.Pipe()
	go func() {
		_, err := up.WriteTo(w)
		_ = w.CloseWithError(err) // nil is the end of the file
	}()
	resp.Body = &body{limit.Receiver(r), r, cancel}
	return resp, nil
}

// body ends the stream of the client when it is closed.
type body struct {
	io.Reader
	pipe   *io.PipeReader
	cancel context.CancelFunc
}

func (b *body) Close() error {
	b.cancel()
	return b.pipe.Close()
}
