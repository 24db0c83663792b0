package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// closure are files of a tree, with all that the dynamic linker needs to start them.
type closure struct {
	tree  string
	files map[string]bool
}

// addAll adds programs, and what the packages that they are from say of themselves.
func (c *closure) addAll(programs []string) error {
	for _, p := range programs {
		if err := c.add(p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	lists, err := fs.Glob(os.DirFS(c.tree), "var/lib/dpkg/info/*.list")
	if err != nil {
		return err
	}
	for _, list := range lists {
		text, err := os.ReadFile(filepath.Join(c.tree, list))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(strings.Split(string(text), "\n"), func(name string) bool { return c.files[relative(name)] }) {
			continue
		}
		name := strings.TrimSuffix(path.Base(list), ".list")
		c.files["usr/share/doc/"+name+"/copyright"] = true
		c.files["var/lib/dpkg/status.d/"+name] = true
	}
	return nil
}

func (c *closure) names() []string { return slices.Collect(maps.Keys(c.files)) }

// add adds a file, the targets of its links, and its libraries.
func (c *closure) add(name string) error {
	name = relative(name)
	for range 10 { // more links than any package has
		if c.files[name] {
			return nil
		}
		info, err := os.Lstat(filepath.Join(c.tree, name))
		if err != nil {
			return err
		}
		c.files[name] = true
		if info.Mode()&fs.ModeSymlink == 0 {
			if script, err := c.isScript(name); script || err != nil {
				return err
			}
			return c.linked(name)
		}
		target, err := os.Readlink(filepath.Join(c.tree, name))
		if err != nil {
			return err
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		name = relative(target)
	}
	return errors.New("too many links")
}

// isScript reports whether a program is a script, or a part of one. Its interpreter is the shell, which all images have.
func (c *closure) isScript(name string) (bool, error) {
	f, err := os.Open(filepath.Join(c.tree, name))
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	var start [1]byte
	if _, err := io.ReadFull(f, start[:]); err != nil {
		return false, err
	}
	return start[0] == '#', nil
}

// linked adds the dynamic linker and the libraries of a program or library.
func (c *closure) linked(name string) error {
	f, err := elf.Open(filepath.Join(c.tree, name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, p.Filesz)
		if _, err := p.ReadAt(text, 0); err != nil {
			return err
		}
		if err := c.add(strings.TrimRight(string(text), "\x00")); err != nil {
			return err
		}
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, l := range libraries {
		if err := c.library(f.Machine, l); err != nil {
			return fmt.Errorf("%s: %w", l, err)
		}
	}
	return nil
}

// library adds a library from the directories that the dynamic linker of Debian looks into.
func (c *closure) library(machine elf.Machine, name string) error {
	triplet, ok := map[elf.Machine]string{elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu"}[machine]
	if !ok {
		return fmt.Errorf("unknown processor %s", machine)
	}
	for _, dir := range []string{"lib/" + triplet, "usr/lib/" + triplet, "lib", "lib64", "usr/lib"} {
		at := path.Join(dir, name)
		if _, err := os.Lstat(filepath.Join(c.tree, at)); err == nil {
			return c.add(at)
		}
	}
	return fs.ErrNotExist
}
