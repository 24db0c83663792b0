package objectstorage

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"oras.land/oras-go/v2/errdef"
)

// TestSend: parts are sent at the same time, and all bytes of a blob once.
func TestSend(t *testing.T) {
	t.Parallel()
	s := NewSender(2)
	data := bytes.Repeat([]byte("mica"), 25)
	both := make(chan struct{})
	var mu sync.Mutex
	got := map[int]string{}
	err := s.Send(t.Context(), bytes.NewReader(data), 100, 30, func(_ context.Context, p Part) error {
		if p.Number <= 2 { // the first two meet
			select {
			case both <- struct{}{}:
			case <-both:
			}
		}
		mu.Lock()
		defer mu.Unlock()
		got[p.Number] = string(p.Body)
		return nil
	})
	if err != nil || len(got) != 4 || got[1]+got[2]+got[3]+got[4] != string(data) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestSendFails: a blob that is shorter or longer than its size, or whose end is an error, is not sent to its end, and nothing is lost of the Sender.
func TestSendFails(t *testing.T) {
	t.Parallel()
	s := NewSender(2)
	failed := errors.New("failed")
	for name, c := range map[string]struct {
		text string
		end  error
		sent error
		want string
	}{
		"short":    {text: "ab", want: "EOF"},
		"long":     {text: "abcdefg", want: "longer"},
		"at end":   {text: "abcdef", end: failed, want: "failed"},
		"refused":  {text: "abcdef", sent: failed, want: "failed"},
		"complete": {text: "abcdef"},
	} {
		r := strings.NewReader(c.text)
		last := false
		var mu sync.Mutex
		err := s.Send(t.Context(), &endReader{r, c.end}, 6, 4, func(_ context.Context, p Part) error {
			mu.Lock()
			defer mu.Unlock()
			last = last || p.Number == 2
			return c.sent
		})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if last && c.want != "" && c.sent == nil {
			t.Errorf("%s: the last part is sent", name)
		}
		if len(s.buffers) != cap(s.buffers) {
			t.Fatalf("%s: a buffer is lost", name)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(failed)
	if err := s.Send(ctx, iotest.ErrReader(errors.New("other")), 6, 4, nil); err == nil {
		t.Error("a build that has ended sends")
	}
}

// endReader ends with an error.
type endReader struct {
	r   *strings.Reader
	err error
}

func (e *endReader) Read(p []byte) (int, error) {
	if e.r.Len() == 0 && e.err != nil {
		return 0, e.err
	}
	return e.r.Read(p)
}

// TestPutBlocks: the list names the blocks in their order, with IDs of the length that Azure's own library has.
func TestPutBlocks(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, minBlock, 2*minBlock + 1} {
		data := bytes.Repeat([]byte{'m'}, size)
		var mu sync.Mutex
		blocks, list := map[string][]byte{}, struct{ Latest []string }{}
		err := PutBlocks(t.Context(), NewSender(2), bytes.NewReader(data), int64(size), func(_ context.Context, q url.Values, body []byte) error {
			if q.Get("comp") == "blocklist" {
				return xml.Unmarshal(body, &list)
			}
			mu.Lock()
			defer mu.Unlock()
			blocks[q.Get("blockid")] = bytes.Clone(body)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for _, id := range list.Latest {
			if len(id) != 88 {
				t.Errorf("ID %s", id)
			}
			got = append(got, blocks[id]...)
		}
		if !bytes.Equal(got, data) || len(blocks) != len(list.Latest) {
			t.Errorf("%d of %d bytes in %d blocks", len(got), size, len(blocks))
		}
	}
}

// TestParseError: what is not an error in XML is not one, and the text of a service is quoted and cut.
func TestParseError(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"": "", "text": "", "<Other/>": "",
		"<Error><Code>C</Code><Message>&#155;[2J</Message></Error>": `403: C: "\u009b[2J"`,
	} {
		err := ParseError("403", []byte(raw))
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want %q", raw, err, want)
		}
	}
	if err := ParseError("404", []byte("<Error><Code>BlobNotFound</Code></Error>")); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
}
