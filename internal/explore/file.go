package explore

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"

	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/view"
)

// maxShown bounds the bytes of a file that are shown.
const maxShown = 1 << 20

// content is the beginning of a file that was opened to be shown.
type content struct {
	name string
	data []byte
	more bool
	err  error
}

// opener returns a function that opens the file under the cursor, in the version that is shown; nil for what is not a regular file.
func (m *Model) opener() (name string, open func(ctx context.Context) (io.ReadCloser, error)) {
	if m.files == nil || m.current() == 0 {
		return "", nil
	}
	id := m.current()
	e := m.files.entry(id)
	if e == nil || e.Type != view.TypeRegular {
		m.message = m.files.path(id) + " is not a regular file"
		return "", nil
	}
	img := m.images[len(m.images)-1]
	_, at := m.selected()
	if m.compares() {
		at = len(img.Layers) - 1
	}
	if m.files.states[id].change == filetree.Removed {
		if m.compares() {
			img = m.images[0]
			at = len(img.Layers)
		} else {
			at, _ = m.selected()
		}
		at--
	}
	name = m.files.path(id)
	return name, func(ctx context.Context) (io.ReadCloser, error) {
		return img.Open(ctx, at, strings.TrimPrefix(name, "/"))
	}
}

// openFile shows the file under the cursor, or what differs in its text if both images have it.
func (m *Model) openFile() {
	name, open := m.opener()
	if open == nil {
		return
	}
	m.message = "reading " + name + " …"
	if before, _ := m.files.versions(m.current()); m.compares() && m.files.states[m.current()].change == filetree.Modified &&
		before.Type == view.TypeRegular {
		old := m.images[0]
		m.later(func(ctx context.Context) any {
			a := read(ctx, name, func(ctx context.Context) (io.ReadCloser, error) {
				return old.Open(ctx, len(old.Layers)-1, strings.TrimPrefix(name, "/"))
			})
			return a.compare(read(ctx, name, open), old.Name, m.images[1].Name)
		})
		return
	}
	m.later(func(ctx context.Context) any { return read(ctx, name, open) })
}

// read reads the beginning of a file.
func read(ctx context.Context, name string, open func(ctx context.Context) (io.ReadCloser, error)) content {
	in, err := open(ctx)
	if err != nil {
		return content{name: name, err: err}
	}
	defer func() { _ = in.Close() }()
	data, err := io.ReadAll(io.LimitReader(until(ctx, in), maxShown+1))
	return content{name: name, data: data[:min(len(data), maxShown)], more: len(data) > maxShown, err: err}
}

// until is a reader that fails once ctx is done: the end of the program does not wait for a large file.
func until(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// compare returns what differs between two texts as a unified diff, and the second of them if one is no text, or too long.
func (c content) compare(b content, nameA, nameB string) content {
	switch {
	case c.err != nil:
		return c
	case b.err != nil || c.more || b.more || bytes.Equal(c.data, b.data) || !isText(c.data, false) || !isText(b.data, false):
		return b
	}
	b.data = []byte(udiff.Unified(nameA+":"+c.name, nameB+":"+c.name, string(c.data), string(b.data)))
	return b
}

// show shows a file: text as it is, anything else in hexadecimal digits.
func (m *Model) show(c content) {
	if c.err != nil {
		m.message = fmt.Sprintf("open %s: %v", c.name, c.err)
		return
	}
	m.message = ""
	var text string
	if isText(c.data, c.more) {
		text = strings.ReplaceAll(strings.ReplaceAll(string(c.data), "\r\n", "\n"), "\t", "    ")
	} else {
		text = hex.Dump(c.data[:min(len(c.data), 64<<10)])
		c.more = c.more || len(c.data) > 64<<10
	}
	l := &lines{name: c.name, text: strings.Split(strings.TrimSuffix(text, "\n"), "\n")}
	if c.more {
		l.text = append(l.text, "… the rest is not shown: extract the file")
	}
	m.overlay = l
}

// isText reports whether data is text. The last character of data that was cut off may be incomplete.
func isText(data []byte, cut bool) bool {
	if cut {
		for i := 0; i < utf8.UTFMax && len(data) > 0 && !utf8.Valid(data[max(0, len(data)-utf8.UTFMax):]); i++ {
			data = data[:len(data)-1]
		}
	}
	return utf8.Valid(data) && !bytes.ContainsRune(data, 0)
}

// extracted is the result of writing a file to this machine.
type extracted struct {
	name, dest string
	size       int64
	err        error
}

func (e extracted) message() string {
	if e.err != nil {
		return fmt.Sprintf("extract %s: %v", e.name, e.err)
	}
	return fmt.Sprintf("wrote %s (%s)", e.dest, size(e.size))
}

// askExtract asks where to write the file under the cursor. It never replaces a file.
func (m *Model) askExtract() {
	name, open := m.opener()
	if open == nil {
		return
	}
	base := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '_'
		}
		return r
	}, path.Base(name))
	m.prompt = &prompt{label: "Write to: ", text: base, done: func(m *Model, dest string) {
		if dest == "" {
			return
		}
		m.message = "writing " + dest + " …"
		m.later(func(ctx context.Context) any {
			n, err := extract(ctx, open, dest)
			return extracted{name: name, dest: dest, size: n, err: err}
		})
	}}
}

// extract writes a new file. If that fails, none is left.
func extract(ctx context.Context, open func(ctx context.Context) (io.ReadCloser, error), dest string) (n int64, err error) {
	in, err := open(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("%s exists: choose another name", dest)
	}
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(out, until(ctx, in))
	if err = errors.Join(err, out.Close()); err != nil {
		_ = os.Remove(dest)
	}
	return n, err
}
