package engineapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hijacked is a connection that a request has taken over.
type hijacked struct {
	net.Conn
	in           io.Reader
	begin        func() error // sends the head of the answer, once; the first Write does so, too
	writeTimeout time.Duration
}

// hijack takes over the connection of a request.
func (s *Server) hijack(w http.ResponseWriter, r *http.Request, contentType string) (*hijacked, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, &requestError{http.StatusInternalServerError, fmt.Errorf("take over the connection: %w", err)}
	}
	if t, ok := w.(*timedWriter); ok {
		t.begun = true
	}
	_ = conn.SetDeadline(time.Time{})
	// The server's own reader ends the context of the request where the client ends its input, which is not its end.
	head := make([]byte, buf.Reader.Buffered())
	_, _ = io.ReadFull(buf.Reader, head)
	h := &hijacked{Conn: conn, in: io.MultiReader(bytes.NewReader(head), conn), writeTimeout: s.writeTimeout}
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
	_ = h.SetWriteDeadline(time.Now().Add(h.writeTimeout))
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

// whileConnected returns a context that ends when the client has gone: a client that only reads sends nothing, and one that has closed its
// side may still read.
func (h *hijacked) whileConnected(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	conn := h.Conn
	for inner := unwrap(conn); inner != nil; inner = unwrap(conn) {
		conn = inner
	}
	f, err := duplicate(conn)
	if err != nil {
		return ctx, cancel // what it is sent next shows that it has gone
	}
	go func() {
		if awaitHangup(f) {
			cancel()
		}
	}()
	return ctx, func() {
		cancel()
		_ = f.Close() // which ends the wait
	}
}

// duplicate returns another descriptor of a connection, which is waited for beside those who read and write.
func duplicate(c net.Conn) (*os.File, error) {
	f, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a connection of type %T has no descriptor", c)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(from uintptr) { fd, dupErr = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	return os.NewFile(uintptr(fd), "connection"), nil
}

// awaitHangup waits until the other end of a connection has been closed. It returns false when this one is closed. The runtime's poller wakes it
// for what arrives, too.
func awaitHangup(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(poll, 0)
		return err == nil && n > 0 && poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	}) == nil
}
