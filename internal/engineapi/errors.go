package engineapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/common"

	"github.com/micabuild/mica/internal/containers"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/registry"
)

// requestError is an error with a status of its own.
type requestError struct {
	status int
	err    error
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

func badRequest(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, fmt.Errorf(format, args...)}
}

var pageNotFound = &requestError{http.StatusNotFound, errors.New("page not found")}

// statusOf returns the HTTP status of an error, as Docker chooses it.
func statusOf(err error) int {
	var own *requestError
	var conflict *image.ConflictError
	var invalid *image.InvalidReferenceError
	var ambiguous *image.AmbiguousError
	var noManifest *registry.NotFoundError
	var denied *registry.DeniedError
	var login *registry.LoginError
	var ofContainer *containers.Error
	switch {
	case errors.As(err, &own):
		return own.status
	case image.IsMissing(err), errors.As(err, &noManifest), errors.As(err, &denied):
		return http.StatusNotFound
	case errors.As(err, &conflict):
		return http.StatusConflict
	case errors.As(err, &invalid), errors.As(err, &ambiguous):
		return http.StatusBadRequest
	case errors.As(err, &login):
		return http.StatusUnauthorized
	case errors.As(err, &ofContainer):
		return containerStatus[ofContainer.Kind]
	}
	return http.StatusInternalServerError
}

// containerStatus are the statuses of errors of containers.
var containerStatus = map[containers.Kind]int{
	0: http.StatusInternalServerError, containers.Invalid: http.StatusBadRequest, containers.NotFound: http.StatusNotFound, containers.Conflict: http.StatusConflict,
	containers.Unsupported: http.StatusNotImplemented, containers.Unchanged: http.StatusNotModified,
	containers.Forbidden: http.StatusForbidden,
}

// messageOf is the text of an error, without credentials. Remedies name docker's commands.
func messageOf(err error) string {
	var invalid *image.InvalidReferenceError
	var denied *registry.DeniedError
	text := err.Error()
	switch {
	case errors.As(err, &invalid):
		text = invalid.Err.Error()
	case errors.As(err, &denied):
		text = fmt.Sprintf("pull access denied for %s, repository does not exist or may require 'docker login'", familiarName(denied.Ref))
		if denied.Said != "" {
			text += ": denied: " + denied.Said
		}
	}
	return redact.URLs(text)
}

// familiarName is the repository of a name as people write it.
func familiarName(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarName(named)
}

// writeError sends an error. It is too late for that once the answer has begun.
func writeError(w http.ResponseWriter, err error) {
	body, _ := json.Marshal(common.ErrorResponse{Message: messageOf(err)})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(err))
	if statusOf(err) == http.StatusNotModified { // which has no body
		return
	}
	_, _ = w.Write(append(body, '\n'))
}
