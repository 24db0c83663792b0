package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// client is mica's side of the protocol. It is the filesystem that the extractors of osv-scalibr read.
type client struct {
	mu      sync.Mutex
	enc     *json.Encoder
	out     *bufio.Writer
	dec     *json.Decoder
	sockets *net.UnixConn
}

var (
	_ fs.ReadDirFS = (*client)(nil)
	_ fs.StatFS    = (*client)(nil)
)

func connect(in io.Reader, out io.Writer, descriptors *os.File) (*client, error) {
	conn, err := net.FileConn(descriptors)
	if err != nil {
		return nil, fmt.Errorf("descriptors: %w", err)
	}
	_ = descriptors.Close() // conn has its own
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("descriptors: not a Unix socket")
	}
	w := bufio.NewWriter(out)
	c := &client{enc: json.NewEncoder(w), out: w, dec: json.NewDecoder(bufio.NewReaderSize(in, 256<<10)), sockets: unixConn}
	return c, c.tell(&request{Op: opHello, Text: protocolVersion})
}

// exitWithMica ends this process as soon as mica has ended or does not want the catalogue any more, whatever it does then.
func (c *client) exitWithMica() error {
	raw, err := c.sockets.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) {
		go func() {
			for {
				if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}, -1); !errors.Is(err, unix.EINTR) {
					os.Exit(1)
				}
			}
		}()
	})
}

// tell sends a request that has no reply. It may stay in the buffer until the next that has.
func (c *client) tell(r *request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enc.Encode(r)
}

func (c *client) done() error {
	return errors.Join(c.tell(&request{Op: opDone}), c.out.Flush())
}

// ask sends a request and returns its reply. take, if set, is called before another request is sent.
func (c *client) ask(op, name string, take func() error) (*reply, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &reply{}
	err := c.enc.Encode(&request{Op: op, Path: name})
	if err == nil {
		err = c.out.Flush()
	}
	if err == nil {
		err = c.dec.Decode(r)
	}
	switch {
	case err != nil:
		return nil, err
	case r.Missing:
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	case r.Error != "":
		return nil, &fs.PathError{Op: op, Path: name, Err: errors.New(r.Error)}
	case op != opReadDir && r.File == nil:
		return nil, errors.New("a reply without a file")
	case take != nil:
		err = take()
	}
	return r, err
}

// Stat implements fs.StatFS.
func (c *client) Stat(name string) (fs.FileInfo, error) {
	r, err := c.ask(opStat, name, nil)
	if err != nil {
		return nil, err
	}
	r.File.Name = path.Base(name)
	return info{r.File}, nil
}

// ReadDir implements fs.ReadDirFS.
func (c *client) ReadDir(name string) ([]fs.DirEntry, error) {
	r, err := c.ask(opReadDir, name, nil)
	if err != nil {
		return nil, err
	}
	list := make([]fs.DirEntry, len(r.Files))
	for i := range r.Files {
		list[i] = fs.FileInfoToDirEntry(info{&r.Files[i]})
	}
	return list, nil
}

// Open implements fs.FS for regular files.
func (c *client) Open(name string) (fs.File, error) {
	in, err := c.open(name)
	if err != nil {
		return nil, err
	}
	return in, nil
}

func (c *client) open(name string) (*opened, error) {
	var in *os.File
	r, err := c.ask(opOpen, name, func() (err error) {
		in, err = c.receive(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	r.File.Name = path.Base(name)
	return &opened{in, info{r.File}}, nil
}

// receive takes a descriptor from the socket.
func (c *client) receive(name string) (*os.File, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.sockets.ReadMsgUnix(make([]byte, 1), control)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, errors.New("no descriptor came")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(errors.New("no descriptor came"), err)
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), name), nil
}

// opened is a file of the image. What os.File can do more, such as reading at an offset, it can do too.
type opened struct {
	*os.File
	info info
}

func (o *opened) Stat() (fs.FileInfo, error) { return o.info, nil }

// info is a file's metadata. It has no times: those of files are not part of a catalogue.
type info struct{ f *file }

func (i info) Name() string       { return i.f.Name }
func (i info) Size() int64        { return i.f.Size }
func (i info) Mode() fs.FileMode  { return fs.FileMode(i.f.Mode) }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.Mode().IsDir() }
func (i info) Sys() any           { return nil }
