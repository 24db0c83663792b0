// Command mica-catalog lists the packages of a filesystem that mica serves to it (protocol.go). mica starts it: it is a program
// of its own so that mica stays small, and so that what it reads, which is untrusted, can end no more than itself. It opens no
// file by a name of the host but its own temporary ones.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// The limits of the process, in bytes: the garbage collector works harder above the first, the kernel refuses more than the second.
const (
	softMemory = 1 << 30
	hardMemory = 2 << 30
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("mica-catalog, protocol " + protocolVersion)
		return
	}
	if len(os.Args) != 2 || os.Args[1] != "serve" {
		fmt.Fprintln(os.Stderr, "mica-catalog lists packages for mica, which starts it: use mica sbom")
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mica-catalog: "+oneLine(err.Error()))
		os.Exit(1)
	}
}

func run() error {
	debug.SetMemoryLimit(softMemory)
	debug.SetTraceback("none")
	// A limit on data, not on the address space, of which Go reserves much that it does not use.
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: hardMemory, Max: hardMemory}); err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	requests := os.Stdout
	os.Stdout = os.Stderr // libraries that read databases print what they find wrong
	c, err := connect(os.Stdin, requests, os.NewFile(3, "descriptors"))
	if err != nil {
		return err
	}
	if err := c.exitWithMica(); err != nil {
		return err
	}
	return walk(context.Background(), c)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
