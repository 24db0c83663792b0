package catalog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/hostfiles"
	"github.com/micabuild/mica/internal/view"
)

// The limits of a catalogue: what is in an image is not trusted, and may be made to take long.
const (
	maxTime     = 10 * time.Minute
	endTime     = 5 * time.Second // between the end of its output and its own
	maxRequests = 512 << 20       // bytes of all requests
	maxRequest  = 1 << 20         // bytes of one
	maxPackages = 1 << 20
	maxSkipped  = 1000
	maxCrashes  = 3
)

// crashError is the end of a mica-catalog that did not say why, while it read a file of the image.
type crashError struct {
	path string
	err  error
}

func (e *crashError) Error() string { return fmt.Sprintf("%v, while it read %s", e.err, e.path) }

func (e *crashError) Unwrap() error { return e.err }

// serveAll runs mica-catalog over a filesystem, with dir for its temporary files. It runs it again without a file that ended it:
// one that was made to do so hides no package of the others. It returns in again whether another try may find more.
func serveAll(ctx context.Context, program, dir string, v view.View) (_ *Catalog, again bool, err error) {
	skip := map[string]error{}
	for {
		s := &server{view: v, dir: dir, skip: skip}
		err := s.play(ctx, program)
		var crashed *crashError
		if err == nil {
			return s.catalog(), s.again || len(skip) > 0, nil
		}
		if !errors.As(err, &crashed) || len(skip) == maxCrashes || skip[crashed.path] != nil {
			return nil, false, err
		}
		skip[crashed.path] = crashed.err
	}
}

// play runs mica-catalog once.
func (s *server) play(parent context.Context, program string) error {
	ctx, cancel := context.WithTimeoutCause(parent, maxTime, fmt.Errorf("it took more than %v", maxTime))
	defer cancel()
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer func() { _ = ours.Close() }()
	cmd := exec.CommandContext(ctx, program, "serve")
	cmd.Env = []string{"TMPDIR=" + s.dir} // and nothing that is secret
	cmd.Dir = s.dir
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what a terminal interrupts is mica, which ends it
	var messages firstBytes
	cmd.Stderr = &messages
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr); err != nil {
		return errors.Join(err, theirs.Close())
	}
	err = hostfiles.With(ctx, cmd.Start)
	_ = theirs.Close()
	if err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	s.enc, s.descriptors = json.NewEncoder(in), ours
	serveErr := crash.Guard(func() error { return s.run(ctx, out) })()
	_ = in.Close()
	switch {
	case errors.Is(serveErr, io.EOF): // it ends, and its exit code says why
		defer time.AfterFunc(endTime, cancel).Stop()
	case serveErr != nil:
		cancel()
	}
	waitErr := cmd.Wait()
	switch {
	case parent.Err() != nil:
		return context.Cause(parent)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return context.Cause(ctx)
	case s.done && serveErr == nil:
		return nil
	}
	return s.failure(serveErr, waitErr, messages.String())
}

// failure is the error of a catalogue that did not end: what mica-catalog says of it is more than that its pipe was closed.
func (s *server) failure(serveErr, waitErr error, said string) error {
	if serveErr != nil && !errors.Is(serveErr, io.EOF) && !errors.Is(serveErr, io.ErrUnexpectedEOF) && !errors.Is(serveErr, unix.EPIPE) {
		return serveErr
	}
	said, _, _ = strings.Cut(strings.TrimSpace(said), "\n")
	var err error
	switch {
	case strings.Contains(said, "out of memory") || strings.Contains(said, "cannot allocate memory"):
		err = errors.New("it takes more than 2 GB of memory")
	case said != "":
		err = errors.New(said)
	case waitErr != nil && !errors.Is(waitErr, context.Canceled): // which play cancels
		err = fmt.Errorf("%s: %w", Program, waitErr)
	default:
		return fmt.Errorf("%s ended too early", Program)
	}
	if s.reading != "" && crashed(waitErr) {
		return &crashError{s.reading, err}
	}
	return err
}

// crashed reports whether a process did not end as it wanted to, nor because another ended it.
func crashed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	const goPanic = 2
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && (status.ExitStatus() == goPanic || status.Signaled() && slices.Contains([]syscall.Signal{syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGABRT}, status.Signal()))
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
	skip        map[string]error // files that are not opened, with the reasons
	enc         *json.Encoder
	descriptors *net.UnixConn
	greeted     bool
	done        bool
	reading     string // the file that was opened last
	found       Catalog
	again       bool   // another try may find more
	unnamed     int    // how many names are not UTF-8
	firstName   string // one of them
	unsaid      int    // how many warnings are not in found
}

// catalog is what was found, with what was not.
func (s *server) catalog() *Catalog {
	if s.unnamed > 0 {
		s.found.Skipped = append(s.found.Skipped, fmt.Sprintf("names that are not UTF-8: %d, such as %q", s.unnamed, s.firstName))
	}
	if s.unsaid > 0 {
		s.found.Skipped = append(s.found.Skipped, fmt.Sprintf("%d more files", s.unsaid))
	}
	return &s.found
}

// run answers requests, each of which is a line.
func (s *server) run(ctx context.Context, requests io.Reader) error {
	lines := bufio.NewReaderSize(&limited{requests, maxRequests}, maxRequest)
	for !s.done {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("%s sent a message of more than %d bytes", Program, maxRequest)
		}
		if err != nil && len(line) == 0 {
			return err
		}
		var r request
		switch parseErr := json.Unmarshal(line, &r); {
		case parseErr != nil && err != nil:
			return err // it ended within a message
		case parseErr != nil:
			return fmt.Errorf("message of %s: %w", Program, parseErr)
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

// limited fails after left bytes.
type limited struct {
	io.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, fmt.Errorf("%s sent more than %d bytes", Program, maxRequests)
	}
	n, err := l.Reader.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
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
			s.found.Skipped = append(s.found.Skipped, quoted(r.Path)+": "+r.Text)
		} else {
			s.unsaid++
		}
		s.again = s.again || r.Again
	case opDone:
		s.done = true
	case opStat, opReadDir, opOpen:
		return s.file(ctx, r)
	default:
		return fmt.Errorf("unknown request %q of %s", r.Op, Program)
	}
	return nil
}

// quoted is a path as it can be part of a line.
func quoted(path string) string {
	if strings.ContainsFunc(path, unicode.IsControl) {
		return strconv.Quote(path)
	}
	return path
}

// firstBytes keeps the beginning of what is written.
type firstBytes struct{ bytes.Buffer }

func (f *firstBytes) Write(p []byte) (int, error) {
	f.Buffer.Write(p[:min(len(p), max(0, 4096-f.Len()))])
	return len(p), nil
}
