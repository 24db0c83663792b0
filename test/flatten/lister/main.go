// Command lister writes what is in its root filesystem to a file, as JSON; its own name and what a runtime mounts left out.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/micabuild/mica/test/flatten/listing"
)

func main() {
	if err := list(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func list(to string) error {
	files, err := listing.Walk("/", func(name string) bool {
		top, _, _ := strings.Cut(name, "/")
		return top == "proc" || top == "sys" || top == "dev" || top == "etc" || strings.HasPrefix(top, ".lister")
	})
	if err != nil {
		return err
	}
	data, err := json.Marshal(files)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
