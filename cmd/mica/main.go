// Command mica builds, lists, explains, ships and runs container images.
package main

import (
	"os"

	"github.com/micabuild/mica/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args)) }
