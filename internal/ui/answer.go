package ui

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/store"
)

// maxAnswer bounds a response, in bytes of JSON.
const maxAnswer = 64 << 20

// requestError is a mistake in a request.
type requestError struct{ err error }

func (e *requestError) Error() string { return e.err.Error() }

func badRequest(format string, args ...any) error { return &requestError{fmt.Errorf(format, args...)} }

// answer sends what f returns as JSON. A panic of f is the error of one request.
func answer(f func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var v any
		err := crash.Guard(func() (err error) { v, err = f(r); return err })()
		var data []byte
		if err == nil {
			data, err = json.Marshal(v)
		}
		if err == nil && len(data) > maxAnswer {
			err = errors.New("the answer is too large")
		}
		if err != nil {
			fail(w, statusOf(err), redact.URLs(err.Error()))
			return
		}
		send(w, r, data)
	})
}

// worthwhile is the size of a response from which on it is compressed.
const worthwhile = 4 << 10

func send(w http.ResponseWriter, r *http.Request, data []byte) {
	w.Header().Set("Content-Type", "application/json")
	if len(data) > worthwhile && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
		if err == nil {
			_, _ = z.Write(data) // to memory
			_ = z.Close()
			w.Header().Set("Content-Encoding", "gzip")
			data = packed.Bytes()
		}
	}
	_, _ = w.Write(data) // a browser that has gone needs no answer
}

// statusOf is the status of an error.
func statusOf(err error) int {
	var bad *requestError
	var gone *image.NotFoundError
	var invalid *image.InvalidReferenceError
	var ambiguous *image.AmbiguousError
	var other *image.PlatformError
	var unpublished *registry.NotFoundError
	switch {
	case errors.As(err, &bad), errors.As(err, &invalid), errors.As(err, &ambiguous):
		return http.StatusBadRequest
	case errors.Is(err, errInUse):
		return http.StatusConflict
	case errors.As(err, &gone), errors.As(err, &unpublished), errors.As(err, &other), errors.Is(err, fs.ErrNotExist), errors.Is(err, store.ErrNotFound), errors.Is(err, history.ErrNotFound):
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// fail sends an error.
func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": message})
}

// number reads a parameter that is a number of least or more; def if it is missing.
func number(r *http.Request, name string, least, def int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least {
		return 0, badRequest("invalid %s %q", name, text)
	}
	return n, nil
}

// body reads the JSON of a request.
func body(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return badRequest("invalid request: %w", err)
	}
	return nil
}
