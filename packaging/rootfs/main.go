// Command rootfs writes, as a tar, the programs of an image from a tree of unpacked packages, with the libraries that they are linked to, the
// accounts, and what the packages say of themselves. The lines of its input are the commands of busybox. Owners and file capabilities are in
// the tar alone: it needs no rights.
package main

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// uid is the ordinary user of the image.
const uid = 1000

// open is the mode of directories: a pod of any user moves the files in them away and back, to lend its root directory to steps (docs/pods.md).
const open = 0o777

// directories are those that no file is in.
var directories = []tar.Header{
	{Name: "etc/ssl/certs", Mode: open}, {Name: "home/mica", Mode: open, Uid: uid, Gid: uid}, {Name: "root", Mode: open}, {Name: "run", Mode: open},
	{Name: "tmp", Mode: 0o1777},
	{Name: "usr/share/git-core/templates", Mode: open}, // git warns if it is missing
	{Name: "var/tmp", Mode: 0o1777}, {Name: "work", Mode: open}, {Name: "workspace", Mode: open},
}

// texts are files that no package has.
var texts = map[string]string{ //nolint:gosec // passwd has no passwords
	"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nmica:x:1000:1000:mica:/home/mica:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
	"etc/group":  "root:x:0:\nmica:x:1000:\nnogroup:x:65534:\n",
	"etc/subuid": "mica:100000:65536\n",
	"etc/subgid": "mica:100000:65536\n",
	// It says that the root directory may be lent to steps (docs/pods.md).
	"mica/image": "",
}

// capabilities are those of programs that Debian makes setuid: a file capability gives less (capabilities(7), struct vfs_cap_data of version 2 with the effective bit).
var capabilities = map[string]string{
	"usr/bin/newuidmap": "\x01\x00\x00\x02\x80\x00\x00\x00" + zeros, // CAP_SETUID
	"usr/bin/newgidmap": "\x01\x00\x00\x02\x40\x00\x00\x00" + zeros, // CAP_SETGID
}

const zeros = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func main() {
	log.SetFlags(0)
	log.SetPrefix("rootfs: ")
	if len(os.Args) < 3 {
		log.Fatal("usage: rootfs TREE PROGRAM...")
	}
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		log.Fatalf("SOURCE_DATE_EPOCH: %v", err)
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	c := &closure{tree: os.Args[1], files: map[string]bool{}}
	if err := c.addAll(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
	w := &writer{Writer: tar.NewWriter(os.Stdout), tree: c.tree, at: time.Unix(epoch, 0), made: map[string]bool{}}
	if err := w.write(c.names(), strings.Fields(string(input))); err != nil {
		log.Fatal(err)
	}
}

// writer writes files of a tree, each after its directories.
type writer struct {
	*tar.Writer
	tree string
	at   time.Time
	made map[string]bool
}

// write writes files of the tree, those that no package has, and links for the commands of busybox.
func (w *writer) write(names, commands []string) error {
	// The root directory itself. containerd gives that of a container the owner of the image's, or the root of the pod where the pod has a user
	// namespace, but always the mode 0755.
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: open, Uid: uid, Gid: uid, ModTime: w.at}); err != nil {
		return err
	}
	for _, dir := range directories {
		if err := w.directory(dir); err != nil {
			return err
		}
	}
	for name := range texts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := w.file(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	// What a pod mounts below /var/run, its service account's token, is then below /run, which is a directory in all images; /var/run is a link in most.
	if err := w.link("var/run", "/run"); err != nil {
		return err
	}
	links := []string{"bin/sh"}
	for _, c := range commands {
		links = append(links, "busybox/"+c)
	}
	for _, name := range links {
		if err := w.link(name, "/bin/busybox"); err != nil {
			return err
		}
	}
	return w.Close()
}

func (w *writer) link(name, target string) error {
	if err := w.directory(tar.Header{Name: path.Dir(name), Mode: open}); err != nil {
		return err
	}
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: w.at})
}

// directory writes a directory, once.
func (w *writer) directory(h tar.Header) error {
	if h.Name == "." || w.made[h.Name] {
		return nil
	}
	if err := w.directory(tar.Header{Name: path.Dir(h.Name), Mode: open}); err != nil {
		return err
	}
	w.made[h.Name] = true
	h.Typeflag, h.ModTime, h.Name = tar.TypeDir, w.at, h.Name+"/"
	return w.WriteHeader(&h)
}

func (w *writer) file(name string) error {
	if err := w.directory(tar.Header{Name: path.Dir(name), Mode: open}); err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: w.at}
	if text, ok := texts[name]; ok {
		return w.regular(h, []byte(text))
	}
	info, err := os.Lstat(filepath.Join(w.tree, name))
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		if h.Linkname, err = os.Readlink(filepath.Join(w.tree, name)); err != nil {
			return err
		}
		return w.WriteHeader(h)
	}
	data, err := os.ReadFile(filepath.Join(w.tree, name))
	if err != nil {
		return err
	}
	if info.Mode()&0o111 != 0 {
		h.Mode = 0o755
	}
	if c, ok := capabilities[name]; ok {
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": c}
	}
	return w.regular(h, data)
}

func (w *writer) regular(h *tar.Header, data []byte) error {
	h.Size = int64(len(data))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// relative is a path below the root of a tree.
func relative(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }
