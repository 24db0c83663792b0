package engineapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
)

// boolean reads a flag of the query as Docker does: anything that is not a word for "no" is "yes".
func boolean(r *http.Request, name string) bool {
	text := r.URL.Query().Get(name)
	return !slices.Contains([]string{"", "0", "no", "false", "none"}, strings.ToLower(strings.TrimSpace(text)))
}

// number reads a number of the query, 0 for none.
func number(r *http.Request, name string) (int64, error) { return queryNumber(r.URL.Query(), name) }

func queryNumber(q url.Values, name string) (int64, error) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, badRequest("invalid value %q for %s: it is not a number", text, name)
	}
	return n, nil
}

// filters reads the filters of a query: {"label":{"a=b":true}}, or {"label":["a=b"]} from old clients.
func filters(r *http.Request) (map[string][]string, error) {
	text := r.URL.Query().Get("filters")
	if text == "" {
		return map[string][]string{}, nil
	}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(text), &sets); err == nil {
		lists := map[string][]string{}
		for key, set := range sets {
			for value, given := range set {
				if given {
					lists[key] = append(lists[key], value)
				}
			}
			sort.Strings(lists[key])
		}
		return lists, nil
	}
	lists := map[string][]string{}
	if err := json.Unmarshal([]byte(text), &lists); err != nil {
		return nil, badRequest("invalid filter: %w", err)
	}
	return lists, nil
}

// conditions are filters as flags have them: key=value.
func conditions(lists map[string][]string) []string {
	var list []string
	for key, values := range lists {
		for _, v := range values {
			list = append(list, key+"="+v)
		}
	}
	sort.Strings(list)
	return list
}

// platform reads a platform of the query: JSON, or the form "linux/arm64" of older parts of the API. It is nil for none.
func platform(r *http.Request) (*ocispec.Platform, error) {
	list, err := platformList(r, "platform")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if len(list) > 1 {
		return nil, badRequest("multiple platforms are not supported here")
	}
	return &list[0], nil
}

func platformList(r *http.Request, name string) (list []ocispec.Platform, err error) {
	for _, text := range r.URL.Query()[name] {
		if text == "" {
			continue
		}
		var p ocispec.Platform
		if strings.HasPrefix(text, "{") {
			if err := json.Unmarshal([]byte(text), &p); err != nil {
				return nil, badRequest("failed to parse platform: %w", err)
			}
			if p.OS == "" || p.Architecture == "" {
				return nil, badRequest("both OS and Architecture must be provided")
			}
		} else if p, err = platforms.Parse(text); err != nil {
			return nil, badRequest("invalid platform %q: %w", text, err)
		}
		list = append(list, platforms.Normalize(p))
	}
	return list, nil
}

// repoTag joins a repository and a tag, each of which may have the tag. It is nil for no repository.
func repoTag(repo, tag string) (reference.Named, error) {
	if repo == "" {
		return nil, nil
	}
	named, err := image.ParseName(strings.TrimSuffix(repo, ":"))
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, badRequest("cannot import digest reference")
	}
	if tag != "" {
		if named, err = reference.WithTag(reference.TrimNamed(named), tag); err != nil {
			return nil, &requestError{http.StatusBadRequest, err}
		}
	}
	return reference.TagNameOnly(named), nil
}

// remoteName is the name of an image in a registry, whose tag may be a digest. Without a tag it is a repository.
func remoteName(name, tag string) (reference.Named, error) {
	named, err := image.ParseName(strings.TrimSuffix(name, ":"))
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	if tag == "" {
		return named, nil
	}
	if d, parseErr := digest.Parse(tag); parseErr == nil {
		named, err = reference.WithDigest(reference.TrimNamed(named), d)
	} else {
		named, err = reference.WithTag(reference.TrimNamed(named), tag)
	}
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	return named, nil
}

// parseTime reads a time of Docker's API: seconds since 1970, a duration before now, or a date.
func parseTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return parseUnixTime(strings.TrimSpace(text))
}

// maxSeconds is in the year 36812: nanoseconds of much later times overflow.
const maxSeconds = 1 << 40

// parseUnixTime reads seconds since 1970, with nanoseconds after a point.
func parseUnixTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	whole, part, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds > maxSeconds {
		return time.Time{}, fmt.Errorf("%q is not a time", text)
	}
	if part = (part + "000000000")[:9]; part == "000000000" {
		return time.Unix(seconds, 0), nil
	}
	nanoseconds, err := strconv.ParseInt(part, 10, 64)
	if err != nil || nanoseconds < 0 {
		return time.Time{}, fmt.Errorf("%q is not a time", text)
	}
	return time.Unix(seconds, nanoseconds), nil
}

// maxRequest bounds the JSON of a request.
const maxRequest = 4 << 20

// decode reads the JSON of a request; nothing is no error where the request may have none.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	switch err := dec.Decode(into); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return badRequest("invalid JSON: %w", err)
	case dec.More():
		return badRequest("unexpected content after JSON")
	}
	return nil
}
