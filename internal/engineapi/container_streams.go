package engineapi

import (
	"encoding/binary"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/moby/moby/api/types"

	"github.com/micabuild/mica/internal/containers"
)

// muxWriter writes one stream of a process into a connection that has both (see stdcopy of Docker's API).
type muxWriter struct {
	to     io.Writer
	mu     *sync.Mutex
	stream containers.Stream
}

func (m *muxWriter) Write(data []byte) (int, error) {
	frame := make([]byte, 8, 8+len(data))
	frame[0] = byte(m.stream)
	binary.BigEndian.PutUint32(frame[4:], uint32(len(data)))
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.to.Write(append(frame, data...)); err != nil {
		return 0, err
	}
	return len(data), nil
}

// outputs are the writers of both streams. Those of a terminal are one, as it is.
func outputs(to io.Writer, tty bool) (stdout, stderr io.Writer) {
	var mu sync.Mutex
	if tty {
		return to, to
	}
	return &muxWriter{to, &mu, containers.Stdout}, &muxWriter{to, &mu, containers.Stderr}
}

// contentType is that of the streams of a process.
func contentType(r *http.Request, tty bool) string {
	if tty || !since(r, "1.42") {
		return types.MediaTypeRawStream
	}
	return types.MediaTypeMultiplexedStream
}

// containerLogs answers docker logs.
func (s *Server) containerLogs(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	o, err := logOptions(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType(r, c.TTY()))
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	_ = control.Flush()
	stdout, stderr := outputs(w, c.TTY())
	stamps, details := boolean(r, "timestamps"), boolean(r, "details")
	err = c.Logs(r.Context(), o, func(rec *containers.Record) error {
		to, data := stdout, rec.Data
		if rec.Stream == containers.Stderr {
			to = stderr
		}
		if details { // the log driver adds no attributes: only the space after them is left
			data = append([]byte(" "), data...)
		}
		if stamps {
			data = append([]byte(rec.Time.UTC().Format(logTime)+" "), data...)
		}
		_, err := to.Write(data)
		if o.Follow && err == nil {
			err = control.Flush()
		}
		return err
	})
	if r.Context().Err() != nil {
		return nil //nolint:nilerr // the client has gone
	}
	return err
}

// logTime is how Docker's log shows times.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

func logOptions(r *http.Request) (o containers.LogOptions, err error) {
	q := r.URL.Query()
	o = containers.LogOptions{Stdout: boolean(r, "stdout"), Stderr: boolean(r, "stderr"), Follow: boolean(r, "follow"), Tail: -1}
	if !o.Stdout && !o.Stderr {
		return o, badRequest("Bad parameters: you must choose at least one stream")
	}
	for name, to := range map[string]*time.Time{"since": &o.Since, "until": &o.Until} {
		if text := q.Get(name); text != "" && text != "0" {
			if *to, err = parseUnixTime(text); err != nil {
				return o, badRequest("invalid value for %q: %w", name, err)
			}
		}
	}
	if n, err := strconv.Atoi(q.Get("tail")); err == nil && n >= 0 { // as in Docker, anything else is all
		o.Tail = n
	}
	return o, nil
}

// attachContainer answers docker attach, and docker run in the foreground.
func (s *Server) attachContainer(w http.ResponseWriter, r *http.Request, c *containers.Container) error {
	keys := r.URL.Query().Get("detachKeys")
	if err := containers.CheckDetachKeys(keys); err != nil {
		return err
	}
	h, err := s.hijack(w, r, contentType(r, c.TTY()))
	if err != nil {
		return err
	}
	defer h.end()
	ctx, cancel := h.whileConnected(r.Context())
	defer cancel()
	stdout, stderr := outputs(h, c.TTY())
	o := containers.AttachOptions{DetachKeys: keys, Logs: boolean(r, "logs"), Stream: boolean(r, "stream"), Ready: h.begin}
	if boolean(r, "stdin") {
		o.Stdin = h
	}
	if boolean(r, "stdout") {
		o.Stdout = stdout
	}
	if boolean(r, "stderr") {
		o.Stderr = stderr
	}
	_ = c.Attach(ctx, o) // it is too late to say what has happened
	return nil
}

// terminalSize reads the size of a terminal.
func terminalSize(r *http.Request) (height, width uint16, err error) {
	for name, to := range map[string]*uint16{"h": &height, "w": &width} {
		n, err := strconv.ParseUint(r.URL.Query().Get(name), 10, 16)
		if err != nil {
			return 0, 0, badRequest("invalid resize %s %q", map[string]string{"h": "height", "w": "width"}[name], r.URL.Query().Get(name))
		}
		*to = uint16(n)
	}
	return height, width, nil
}

func resizeContainer(_ http.ResponseWriter, r *http.Request, c *containers.Container) error {
	height, width, err := terminalSize(r)
	if err != nil {
		return err
	}
	return c.Resize(height, width)
}
