package kubejob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	gorilla "github.com/gorilla/websocket"
	"k8s.io/client-go/transport/websocket"
)

// protocol is that of exec by websockets (k8s.io/apimachinery/pkg/util/remotecommand): each message begins with the number of its stream.
const protocol = "v5.channel.k8s.io"

const (
	streamStdin  = 0
	streamStdout = 1
	streamStderr = 2
	streamError  = 3
)

const (
	// maxMessage is how many bytes a message has that is sent.
	maxMessage = 32 << 10
	// maxReceived limits a message that is received.
	maxReceived = 1 << 20
	// pingEvery keeps proxies from ending a connection that is silent.
	pingEvery = 20 * time.Second
	// maxText limits what is kept of the messages of a command.
	maxText = 4 << 10
)

// exec runs a command in the pod, whose stdin and stdout are the connection.
func (c *cluster) exec(ctx context.Context, pod string, command []string) (net.Conn, error) {
	q := url.Values{"container": {containerName}, "command": command, "stdin": {"true"}, "stdout": {"true"}, "stderr": {"true"}}
	at, err := c.url(c.pods() + "/" + url.PathEscape(pod) + "/exec?" + q.Encode())
	if err != nil {
		return nil, err
	}
	rt, holder, err := websocket.RoundTripperFor(c.config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	ws, err := websocket.Negotiate(rt, holder, req, protocol)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: exec in pod %s: %w", pod, err)
	}
	ws.SetReadLimit(maxReceived)
	conn := &execConn{ws: ws, done: make(chan struct{})}
	go conn.ping()
	return conn, nil
}

// execConn is the connection to a command.
type execConn struct {
	ws   *gorilla.Conn
	done chan struct{}
	once sync.Once

	writing sync.Mutex

	rest io.Reader // of the message that is read
	text []byte    // of stderr
}

// ping sends a message from time to time.
func (c *execConn) ping() {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-c.done:
			return
		case now := <-t.C:
			if c.ws.WriteControl(gorilla.PingMessage, nil, now.Add(pingEvery)) != nil {
				return
			}
		}
	}
}

// Read reads what the command writes to stdout.
func (c *execConn) Read(p []byte) (int, error) {
	for {
		if c.rest != nil {
			n, err := c.rest.Read(p)
			if errors.Is(err, io.EOF) {
				c.rest, err = nil, nil
			}
			if n > 0 || err != nil {
				return n, err
			}
			continue
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
}

// next begins the next message.
func (c *execConn) next() error {
	_, r, err := c.ws.NextReader()
	if err != nil {
		var closed *gorilla.CloseError
		if errors.As(err, &closed) && closed.Code == gorilla.CloseNormalClosure {
			return io.EOF
		}
		return err
	}
	var stream [1]byte
	if _, err := io.ReadFull(r, stream[:]); err != nil {
		return nil //nolint:nilerr // an empty message says nothing
	}
	switch stream[0] {
	case streamStdout:
		c.rest = r
	case streamStderr:
		more, _ := io.ReadAll(io.LimitReader(r, int64(maxText-len(c.text))))
		c.text = append(c.text, more...)
	case streamError:
		return c.end(r)
	}
	return nil
}

// end returns the error of the command.
func (c *execConn) end(r io.Reader) error {
	var status struct{ Status, Message string }
	if json.NewDecoder(io.LimitReader(r, maxReceived)).Decode(&status) == nil && status.Status == "Success" {
		return io.EOF
	}
	return fmt.Errorf("kubernetes: %s: %s", status.Message, c.text)
}

// Write writes to the stdin of the command.
func (c *execConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for n := 0; ; {
		part := p[n:min(n+maxMessage, len(p))]
		if len(part) == 0 {
			return n, nil
		}
		if err := c.message(streamStdin, part); err != nil {
			return n, err
		}
		n += len(part)
	}
}

func (c *execConn) message(stream byte, data []byte) error {
	w, err := c.ws.NextWriter(gorilla.BinaryMessage)
	if err != nil {
		return err
	}
	_, err = w.Write([]byte{stream})
	if err == nil {
		_, err = w.Write(data)
	}
	return errors.Join(err, w.Close())
}

// Close ends the command.
func (c *execConn) Close() (err error) {
	c.once.Do(func() {
		close(c.done)
		_ = c.ws.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(gorilla.CloseNormalClosure, ""), time.Now().Add(time.Second))
		err = c.ws.Close()
	})
	return err
}

// LocalAddr returns the address of this side.
func (c *execConn) LocalAddr() net.Addr { return c.ws.LocalAddr() }

// RemoteAddr returns the address of the API server.
func (c *execConn) RemoteAddr() net.Addr { return c.ws.RemoteAddr() }

// SetDeadline sets both deadlines.
func (c *execConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets the deadline of reads.
func (c *execConn) SetReadDeadline(t time.Time) error { return c.ws.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of writes.
func (c *execConn) SetWriteDeadline(t time.Time) error { return c.ws.SetWriteDeadline(t) }
