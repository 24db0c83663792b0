//go:build e2e

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
)

// emptyLayer is a layer's tar without files, and its DiffID.
func emptyLayer() (data []byte, diffID string) {
	var buf bytes.Buffer
	_ = tar.NewWriter(&buf).Close()
	return buf.Bytes(), fmt.Sprintf("sha256:%x", sha256.Sum256(buf.Bytes()))
}
