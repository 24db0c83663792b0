package image

import (
	"errors"
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	hex := strings.Repeat("0", 64)
	for name, ambiguous := range map[string]bool{
		"sha256": true, "sha256:abc": true, "sha256:" + hex: true, "docker.io/library/sha256:x": true, "library/sha256": true,
		"sha256@sha256:" + hex: true, "x/sha256:y": false, "sha256x": false, "localhost/sha256:x": false, "app:sha256": false,
	} {
		if _, err := ParseName(name); errors.Is(err, errAmbiguous) != ambiguous || !ambiguous && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseName(hex); err == nil || !strings.Contains(err.Error(), "64-byte hexadecimal") {
		t.Errorf("an ID: %v", err)
	}
}
