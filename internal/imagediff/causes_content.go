package imagediff

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// maxArchive bounds the archives that are read to find out how they differ.
const maxArchive = 64 << 20

// zipSuffixes are those of zip files.
var zipSuffixes = []string{".zip", ".jar", ".war", ".ear", ".whl", ".egg"}

// content finds the cause of a difference that only the content of a file shows.
func (c *classifier) content(change *FileChange, name string) (Cause, error) {
	cause, without := contentCause(name)
	if cause == "" || max(change.Old.Size, change.New.Size) > maxArchive || cause == ArchiveTimes && change.Old.Size != change.New.Size {
		return Unexplained, nil
	}
	var rest [2]string
	for n, contents := range c.contents {
		data, err := contents.read(c.ctx, name, maxArchive)
		if errors.Is(err, unix.ENAMETOOLONG) {
			return Unexplained, nil
		}
		if err != nil {
			return "", fmt.Errorf("read %s: %w", change.Path, err)
		}
		rest[n] = without(data)
	}
	if rest[0] == rest[1] {
		return cause, nil
	}
	return Unexplained, nil
}

// contentCause returns the cause that the content of a file may show, and a function that returns what else is in it; "" for none.
func contentCause(name string) (Cause, func(data []byte) string) {
	switch {
	case name == "etc/shadow" || name == "etc/shadow-":
		return PasswordDates, withoutPasswordDates
	case strings.HasSuffix(name, "gz"):
		return ArchiveTimes, withoutGzipTime
	case slices.Contains(zipSuffixes, path.Ext(name)):
		return ArchiveTimes, withoutZipTimes
	}
	return "", nil
}

// withoutGzipTime is a gzip file without its time (RFC 1952, section 2.3).
func withoutGzipTime(data []byte) string {
	if len(data) < 10 || data[0] != 0x1f || data[1] != 0x8b {
		return string(data)
	}
	return string(data[:4]) + string(data[8:])
}

// withoutZipTimes describes a zip file without the times of its files. Data that cannot be read as a zip file is its own description.
func withoutZipTimes(data []byte) string {
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return string(data)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d bytes, %q\n", len(data), r.Comment)
	left := uint64(len(data)) // files that share their contents could take a long time
	for _, f := range r.File {
		if f.CompressedSize64 > left {
			return string(data)
		}
		left -= f.CompressedSize64
		raw, err := zipData(f)
		if err != nil {
			return string(data)
		}
		fmt.Fprintf(&text, "%q %q %x %x %d %d %d %q %s\n", f.Name, f.Comment, f.CreatorVersion, f.ReaderVersion, f.Flags, f.Method, f.ExternalAttrs, withoutExtraTimes(f.Extra), raw)
	}
	return text.String()
}

// zipData returns the digest of the compressed content of a file.
func zipData(f *zip.File) (digest.Digest, error) {
	raw, err := f.OpenRaw()
	if err != nil {
		return "", err
	}
	d := digest.SHA256.Digester()
	n, err := io.Copy(d.Hash(), raw)
	if err == nil && uint64(n) != f.CompressedSize64 {
		err = errors.New("the file ends in it")
	}
	return d.Digest(), err
}

// withoutExtraTimes leaves the extra fields of NTFS and Info-ZIP that have times out (APPNOTE.TXT, 4.5; Info-ZIP's extrafld.txt).
func withoutExtraTimes(extra []byte) string {
	const header = 4 // an ID and a length
	var rest []byte
	for len(extra) >= header {
		id := binary.LittleEndian.Uint16(extra)
		size := min(header+int(binary.LittleEndian.Uint16(extra[2:])), len(extra))
		if id != 0x000a && id != 0x5455 {
			rest = append(rest, extra[:size]...)
		}
		extra = extra[size:]
	}
	return string(append(rest, extra...))
}

// withoutPasswordDates is a shadow file without the dates of the last change (shadow(5)).
func withoutPasswordDates(data []byte) string {
	lines := strings.Split(string(data), "\n")
	for i, line := range lines {
		if parts := strings.Split(line, ":"); len(parts) > 2 {
			parts[2] = ""
			lines[i] = strings.Join(parts, ":")
		}
	}
	return strings.Join(lines, "\n")
}
