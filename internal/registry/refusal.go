package registry

import (
	"bytes"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"oras.land/oras-go/v2/registry/remote/errcode"
)

// What is read, and kept, of a refusal.
const (
	maxRefusal = 64 << 10
	maxSaid    = 300 // bytes that are shown
	maxErrors  = 3
)

// readRefusal replaces the body of an error response by the errors in it, in the form of the distribution specification.
// Proxies before registries respond with HTML, token servers with OAuth's errors (RFC 6749, 5.2).
func readRefusal(resp *http.Response) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	_ = resp.Body.Close()
	if err != nil && len(raw) == 0 {
		raw = nil
	}
	data, err := json.Marshal(map[string]any{"errors": errorsIn(raw)})
	if err != nil {
		data = []byte("{}")
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	resp.ContentLength = int64(len(data))
	resp.Header.Set("Content-Type", "application/json")
}

// errorsIn returns the errors of an error response in any form.
func errorsIn(raw []byte) errcode.Errors {
	var said struct {
		Errors      errcode.Errors  `json:"errors"`
		Description string          `json:"error_description"`
		Details     string          `json:"details"`
		Message     string          `json:"message"`
		Error       json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return message("", text(raw))
	}
	if len(said.Errors) > 0 {
		list := said.Errors[:min(len(said.Errors), maxErrors)]
		for i := range list {
			list[i] = errcode.Error{Code: clipped(list[i].Code), Message: clipped(list[i].Message)}
		}
		return list
	}
	var code string
	_ = json.Unmarshal(said.Error, &code)
	for _, m := range []string{said.Description, said.Details, said.Message} {
		if m != "" {
			return message(code, m)
		}
	}
	return message("", code)
}

func message(code, text string) errcode.Errors {
	if text == "" {
		return nil
	}
	return errcode.Errors{{Code: clipped(code), Message: clipped(text)}}
}

var (
	titleElement = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`) })
	anyElement   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?s)<[^>]*>`) })
)

// text is the message of a plain text, or the title of a page.
func text(raw []byte) string {
	s := strings.ToValidUTF8(string(raw), "")
	if !strings.HasPrefix(strings.TrimSpace(s), "<") {
		return s
	}
	if m := titleElement().FindStringSubmatch(s); m != nil {
		return html.UnescapeString(m[1])
	}
	return html.UnescapeString(anyElement().ReplaceAllString(s, " "))
}

// said is the message of an error response, in one line; "" for none.
func said(resp *errcode.ErrorResponse) string {
	var parts []string
	for _, e := range resp.Errors {
		code := strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))
		switch {
		case code == "" || code == "unknown" && e.Message != "":
			parts = append(parts, e.Message)
		case e.Message == "":
			parts = append(parts, code)
		default:
			parts = append(parts, code+": "+e.Message)
		}
	}
	return clipped(strings.Join(strings.Fields(strings.Join(parts, "; ")), " "))
}

// clipped bounds a line, at the end of a character.
func clipped(s string) string {
	if len(s) <= maxSaid {
		return s
	}
	return strings.ToValidUTF8(s[:maxSaid], "") + "…"
}
