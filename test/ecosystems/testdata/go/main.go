package main

import (
	"fmt"

	"github.com/google/uuid"
)

var version string

func main() {
	fmt.Println(version, uuid.NewSHA1(uuid.NameSpaceDNS, []byte("example.com")))
}
