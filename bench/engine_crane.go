//go:build e2e

package main

import "os/exec"

// crane copies blobs between registries and directories, and has no store.
type crane struct{ path, root string }

func (*crane) kind() kind                         { return kindCrane }
func (c *crane) dir() string                      { return c.root }
func (*crane) daemon() int                        { return 0 }
func (*crane) close() error                       { return nil }
func (c *crane) command(args ...string) *exec.Cmd { return exec.Command(c.path, args...) }
func (*crane) build(job) *exec.Cmd                { return exec.Command("false") }
