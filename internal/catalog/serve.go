package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/view"
)

// The limits of a catalogue: what is in an image is not trusted, and may be made to take long.
const (
	maxTime     = 10 * time.Minute
	endTime     = 5 * time.Second // between the end of its output and its own
	maxRequests = 512 << 20       // bytes of all requests
	maxPackages = 1 << 20
	maxSkipped  = 1000
)

// serve runs mica-catalog over a filesystem, with dir for its temporary files.
func serve(ctx context.Context, program, dir string, v view.View) (*Catalog, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxTime, fmt.Errorf("it took more than %v", maxTime))
	defer cancel()
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = ours.Close() }()
	cmd := exec.CommandContext(ctx, program, "serve")
	cmd.Env = []string{"TMPDIR=" + dir} // and nothing that is secret
	cmd.Dir = dir
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.WaitDelay = time.Second
	var messages firstBytes
	cmd.Stderr = &messages
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr); err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	s := &server{view: v, dir: dir, enc: json.NewEncoder(in), descriptors: ours}
	serveErr := crash.Guard(func() error { return s.run(ctx, out) })()
	_ = in.Close()
	switch {
	case errors.Is(serveErr, io.EOF): // it ends, and its exit code says why
		defer time.AfterFunc(endTime, cancel).Stop()
	case serveErr != nil:
		cancel()
	}
	waitErr := cmd.Wait()
	if s.done && serveErr == nil {
		return &s.found, nil
	}
	return nil, s.failure(ctx, serveErr, waitErr, messages.String())
}

// failure is the error of a catalogue that did not end: what mica-catalog says of it is more than that its pipe was closed.
func (s *server) failure(ctx context.Context, serveErr, waitErr error, said string) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if errors.Is(waitErr, context.Canceled) {
		waitErr = nil // it was ended
	}
	if serveErr != nil && !errors.Is(serveErr, io.EOF) && !errors.Is(serveErr, io.ErrUnexpectedEOF) && !errors.Is(serveErr, unix.EPIPE) {
		return serveErr
	}
	said, _, _ = strings.Cut(strings.TrimSpace(said), "\n")
	switch {
	case strings.Contains(said, "out of memory") || strings.Contains(said, "cannot allocate memory"):
		return errors.New("it takes more than 2 GB of memory")
	case said != "":
		return errors.New(said)
	case waitErr != nil:
		return fmt.Errorf("%s: %w", Program, waitErr)
	}
	return fmt.Errorf("%s ended too early", Program)
}

// socketPair makes two ends of a socket.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	end := os.NewFile(uintptr(fds[0]), "descriptors")
	theirs = os.NewFile(uintptr(fds[1]), "descriptors")
	conn, err := net.FileConn(end)
	_ = end.Close() // conn has its own
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn.(*net.UnixConn), theirs, nil
}

// server answers the requests of mica-catalog.
type server struct {
	view        view.View
	dir         string
	enc         *json.Encoder
	descriptors *net.UnixConn
	greeted     bool
	done        bool
	found       Catalog
}

func (s *server) run(ctx context.Context, requests io.Reader) error {
	dec := json.NewDecoder(io.LimitReader(requests, maxRequests))
	for !s.done {
		var r request
		if err := dec.Decode(&r); err != nil {
			return err
		}
		if !s.greeted && r.Op != opHello {
			return fmt.Errorf("%s does not speak mica's protocol", Program)
		}
		if err := s.serve(ctx, &r); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) serve(ctx context.Context, r *request) error {
	switch r.Op {
	case opHello:
		if r.Text != protocolVersion {
			return fmt.Errorf("%s is of another version (protocol %q, not %q): install the one that comes with mica", Program, r.Text, protocolVersion)
		}
		s.greeted = true
	case opPackage:
		if r.Package != nil {
			s.found.Packages = append(s.found.Packages, *r.Package)
		}
		if len(s.found.Packages) > maxPackages {
			return fmt.Errorf("there are more than %d packages", maxPackages)
		}
	case opWarn:
		if len(s.found.Skipped) < maxSkipped {
			s.found.Skipped = append(s.found.Skipped, r.Path+": "+r.Text)
		}
	case opDone:
		s.done = true
	case opStat, opReadDir, opOpen:
		return s.file(ctx, r)
	default:
		return fmt.Errorf("unknown request %q of %s", r.Op, Program)
	}
	return nil
}

// file answers a request for a file. Its errors are those of the protocol: what is wrong with the file is in the answer.
func (s *server) file(ctx context.Context, r *request) error {
	var answer reply
	opened, err := s.answer(ctx, r, &answer)
	if opened != nil {
		defer func() { _ = opened.Close() }()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		answer = reply{Missing: true}
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		answer = reply{Error: err.Error()}
	}
	if err := s.enc.Encode(&answer); err != nil || opened == nil {
		return err
	}
	_, _, err = s.descriptors.WriteMsgUnix([]byte{0}, unix.UnixRights(int(opened.Fd())), nil)
	return err
}

func (s *server) answer(ctx context.Context, r *request, out *reply) (*os.File, error) {
	at, err := view.Resolve(ctx, s.view, path.Join("/", r.Path), true)
	if err != nil {
		return nil, err
	}
	if r.Op == opReadDir {
		entries, err := s.view.ReadDir(ctx, at)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if utf8.ValidString(e.Path) { // JSON has no other names, and packages have none
				out.Files = append(out.Files, describe(e))
			}
		}
		return nil, nil
	}
	e, err := s.view.Lstat(ctx, at)
	if err != nil {
		return nil, err
	}
	d := describe(e)
	out.File = &d
	if r.Op == opStat {
		return nil, nil
	}
	return s.open(ctx, at)
}

// open returns a file that the kernel can pass on: that of a tree, or a copy without a name.
func (s *server) open(ctx context.Context, name string) (*os.File, error) {
	in, err := s.view.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	if f, ok := in.(*os.File); ok {
		return f, nil
	}
	defer func() { _ = in.Close() }()
	f, err := os.CreateTemp(s.dir, "file")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, in)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func describe(e *view.Entry) file {
	mode := fs.FileMode(e.Mode & 0o777)
	switch e.Type {
	case view.TypeRegular:
	case view.TypeDir:
		mode |= fs.ModeDir
	case view.TypeSymlink:
		mode |= fs.ModeSymlink
	default:
		mode |= fs.ModeIrregular
	}
	return file{Name: path.Base(e.Path), Mode: uint32(mode), Size: e.Size}
}

// firstBytes keeps the beginning of what is written.
type firstBytes struct{ bytes.Buffer }

func (f *firstBytes) Write(p []byte) (int, error) {
	f.Buffer.Write(p[:min(len(p), max(0, 4096-f.Len()))])
	return len(p), nil
}
