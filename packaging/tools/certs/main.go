// Command certs prints the certificate authorities of Mozilla's root program as PEM, for mica's own image. They are those of
// the module version in go.mod, so that the image does not depend on the machine that builds it.
package main

import (
	"encoding/pem"
	"log"
	"os"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func main() {
	log.SetFlags(0)
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue // trusted for some certificates only, which PEM cannot express
		}
		if err := pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			log.Fatalf("certs: %v", err)
		}
	}
}
