package kubejob

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// cluster is the API server, and a namespace.
type cluster struct {
	config    *rest.Config
	http      *http.Client
	base      *url.URL
	namespace string
	slow      time.Duration // see slowStart
	patience  patience
}

func (c *cluster) pods() string { return "/api/v1/namespaces/" + url.PathEscape(c.namespace) + "/pods" }
func (c *cluster) jobs() string {
	return "/apis/batch/v1/namespaces/" + url.PathEscape(c.namespace) + "/jobs"
}
func (c *cluster) events() string {
	return "/api/v1/namespaces/" + url.PathEscape(c.namespace) + "/events"
}

// StatusError is a refusal of the API server.
type StatusError struct {
	Code       int
	Message    string
	retryAfter time.Duration
}

func (e *StatusError) Error() string { return "kubernetes: " + e.Message }

// refuses reports whether another pod might be admitted.
func (e *StatusError) refuses() bool {
	return e.Code == http.StatusForbidden || e.Code == http.StatusUnprocessableEntity || e.Code == http.StatusBadRequest
}

// exceedsQuota reports whether a quota is used up. The API server checks quotas after all else: the pod is admitted when there is room.
func (e *StatusError) exceedsQuota() bool {
	return e.Code == http.StatusForbidden && strings.Contains(e.Message, "exceeded quota")
}

// maxAnswer limits an object of the API server, in bytes.
const maxAnswer = 8 << 20

func (c *cluster) post(ctx context.Context, path string, object any) error {
	raw, err := json.Marshal(object)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodPost, path, raw)
	return err
}

func (c *cluster) delete(ctx context.Context, path string) error {
	_, err := c.do(ctx, http.MethodDelete, path, nil)
	if status, ok := err.(*StatusError); ok && status.Code == http.StatusNotFound { //nolint:errorlint // do returns it as it is
		return nil
	}
	return err
}

// do sends a request and returns the object that is the answer.
func (c *cluster) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return raw, nil
}

// once sends a request.
func (c *cluster) once(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	at, err := c.url(path)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	status := &StatusError{Code: resp.StatusCode, Message: resp.Status, retryAfter: retryAfter(resp.Header)}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	var said struct{ Message string }
	if err == nil && json.Unmarshal(raw, &said) == nil && said.Message != "" {
		status.Message = said.Message
	}
	return nil, status
}

// url is that of a path with a query, below where the server is.
func (c *cluster) url(path string) (*url.URL, error) {
	u, err := url.Parse(path)
	if err != nil {
		return nil, err
	}
	u.Scheme, u.Host = c.base.Scheme, c.base.Host
	u.Path = c.base.JoinPath(u.Path).Path
	return u, nil
}
