package kubejob

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	knet "k8s.io/apimachinery/pkg/util/net"
)

// A request that an API server has no room for, or does not answer, is sent again: after twice the time of the time before, or after what the
// server asks for. The time has jitter: of a thousand clients that were refused at once, few come back at once.
const (
	maxTries = 8
	// dialTries is for a server that refuses connections: its address may be wrong.
	dialTries = 4
	firstWait = 500 * time.Millisecond
	maxWait   = 30 * time.Second
)

// patience says when a request is sent again.
type patience struct{ first, most time.Duration }

// wait returns how long to wait before another try, and false if there is no other try.
func (p patience) wait(err error, try int) (time.Duration, bool) {
	d := min(p.first<<try, p.most)
	again := try < maxTries-1
	var status *StatusError
	switch {
	case errors.As(err, &status):
		again = again && status.temporary()
		d = max(d, min(status.retryAfter, p.most))
	case knet.IsConnectionRefused(err):
		again = try < dialTries-1
	default:
		again = again && lost(err)
	}
	return d + rand.N(max(d, 1)), again //nolint:gosec // nobody gains by guessing it
}

// lost reports whether a connection has ended without an answer.
func lost(err error) bool {
	return knet.IsConnectionReset(err) || knet.IsProbableEOF(err) || knet.IsHTTP2ConnectionLost(err) || knet.IsTimeout(err)
}

// temporary reports whether the same request may succeed later.
func (e *StatusError) temporary() bool {
	switch e.Code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	case http.StatusInternalServerError: // an API server that asks for patience says for how long
		return e.retryAfter > 0
	}
	return false
}

// retryAfter reads how long a server asks to wait.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds), time.Hour/time.Second) * time.Second
}

// send sends a request, again if the API server is busy or does not answer: all requests of this package may be sent twice. The error of another
// status than success is a StatusError.
func (c *cluster) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	for try := 0; ; try++ {
		resp, err := c.once(ctx, method, path, body)
		if err == nil || ctx.Err() != nil {
			return resp, err
		}
		d, again := c.patience.wait(err, try)
		if !again {
			return nil, err
		}
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return nil, err
		}
	}
}
