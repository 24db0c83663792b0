package objectstorage

import (
	"encoding/xml"
	"fmt"
	"slices"

	"oras.land/oras-go/v2/errdef"
)

// Error is an error that a service returns in XML, as those of S3 and Azure do.
type Error struct {
	Status string // of HTTP
	Code   string
	Text   string `xml:"Message"`
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %.100s: %.500q", e.Status, e.Code, e.Text)
}

// missing are the codes for an object that does not exist, and for one in a container that does not exist yet.
var missing = []string{"NoSuchKey", "BlobNotFound", "ContainerNotFound"}

// Is makes an object that does not exist an errdef.ErrNotFound.
func (e *Error) Is(target error) bool {
	return target == errdef.ErrNotFound && slices.Contains(missing, e.Code)
}

// ParseError returns the error in the body of a response, nil for none.
func ParseError(status string, raw []byte) error {
	var doc struct {
		XMLName xml.Name
		Error
	}
	_ = xml.Unmarshal(raw, &doc) // any text may be an answer
	if doc.XMLName.Local != "Error" {
		return nil
	}
	doc.Status = status
	return &doc.Error
}
