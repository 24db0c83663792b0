package engineapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types"
	"golang.org/x/sys/unix"

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
			if *to, err = unixTime(text); err != nil {
				return o, badRequest("invalid value for %q: %w", name, err)
			}
		}
	}
	if n, err := strconv.Atoi(q.Get("tail")); err == nil && n >= 0 { // as in Docker, anything else is all
		o.Tail = n
	}
	return o, nil
}

// hijacked is a connection that a request has taken over.
type hijacked struct {
	net.Conn
	in       io.Reader
	begin    func() error // sends the head of the answer, once; the first Write does so, too
	patience time.Duration
	look     time.Duration
}

// hijack takes over the connection of a request.
func (s *Server) hijack(w http.ResponseWriter, r *http.Request, contentType string) (*hijacked, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, &requestError{http.StatusInternalServerError, fmt.Errorf("take over the connection: %w", err)}
	}
	if p, ok := w.(*patient); ok {
		p.begun = true
	}
	_ = conn.SetDeadline(time.Time{})
	// The server's own reader ends the context of the request where the client ends its input, which is not its end.
	head := make([]byte, buf.Reader.Buffered())
	_, _ = io.ReadFull(buf.Reader, head)
	h := &hijacked{Conn: conn, in: io.MultiReader(bytes.NewReader(head), conn), patience: s.patience, look: s.look}
	answer := "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
	if r.Header.Get("Upgrade") != "" {
		answer = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + contentType + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	}
	h.begin = sync.OnceValue(func() error {
		_, err := h.write([]byte(answer))
		return err
	})
	return h, nil
}

func (h *hijacked) Read(p []byte) (int, error) { return h.in.Read(p) }

// Write fails if the client has not read for some time: a process does not wait for it for ever.
func (h *hijacked) Write(p []byte) (int, error) {
	if err := h.begin(); err != nil {
		return 0, err
	}
	return h.write(p)
}

func (h *hijacked) write(p []byte) (int, error) {
	_ = h.SetWriteDeadline(time.Now().Add(h.patience))
	return h.Conn.Write(p)
}

// lingerTime is how long the end of a connection waits for the client to close its side.
const lingerTime = 2 * time.Second

// end closes the connection when all that was written can be read: input that nobody has read would reset it, and drop what the client has
// not read yet.
func (h *hijacked) end() {
	_ = h.begin()
	if closeWrite(h.Conn) {
		_ = h.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, h.Conn)
	}
	_ = h.Close()
}

// closeWrite ends the output of a connection, whatever wraps it, and reports whether it has.
func closeWrite(conn net.Conn) bool {
	for conn != nil {
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			return half.CloseWrite() == nil
		}
		conn = unwrap(conn)
	}
	return false
}

// unwrap is the connection that another one wraps, and nil if it wraps none.
func unwrap(conn net.Conn) net.Conn {
	if outer, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return outer.NetConn()
	}
	return nil
}

// look is how often the server looks whether the client of a stream is still there.
const look = 5 * time.Second

// watch ends a context when the client has gone: a client that only reads sends nothing, and one that has closed its side may still read.
func (h *hijacked) watch(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	conn := h.Conn
	for inner := unwrap(conn); inner != nil; inner = unwrap(conn) {
		conn = inner
	}
	go func() {
		tick := time.NewTicker(h.look)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if hungUp(conn) {
					cancel()
					return
				}
			}
		}
	}()
	return ctx, cancel
}

// hungUp reports whether the other end of a connection has been closed.
func hungUp(c net.Conn) bool {
	f, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(poll, 0)
		gone = err == nil && n > 0 && poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone || errors.Is(err, net.ErrClosed)
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
	ctx, cancel := h.watch(r.Context())
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

// size reads the size of a terminal.
func size(r *http.Request) (height, width uint16, err error) {
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
	height, width, err := size(r)
	if err != nil {
		return err
	}
	return c.Resize(height, width)
}
