package certs

import (
	"crypto/sha1" //nolint:gosec // the name that OpenSSL gives a file, not a protection
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// subjectHash returns OpenSSL's file name of a certificate in a directory: the first four bytes, little-endian, of the SHA-1 of
// the subject in its canonical form (openssl crypto/x509/x_name.c, x509_name_canon): strings in UTF-8, in lower case, without
// spaces around them and with single spaces within.
func subjectHash(subject []byte) string {
	sum := sha1.Sum(canonicalName(subject)) //nolint:gosec // see the import
	return fmt.Sprintf("%08x", binary.LittleEndian.Uint32(sum[:4]))
}

// attribute is one of the attributes of a name (RFC 5280, AttributeTypeAndValue).
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// canonicalName returns the concatenated sets of the name, without the sequence around them.
func canonicalName(subject []byte) []byte {
	var sets []asn1.RawValue
	if _, err := asn1.Unmarshal(subject, &sets); err != nil {
		return subject
	}
	var out []byte
	for _, set := range sets {
		var attributes []attribute
		if _, err := asn1.UnmarshalWithParams(set.FullBytes, &attributes, "set"); err != nil {
			return subject
		}
		for i := range attributes {
			v := &attributes[i].Value
			if text, ok := textOf(v); ok {
				v.FullBytes = nil
				v.Class, v.Tag, v.IsCompound = asn1.ClassUniversal, asn1.TagUTF8String, false
				v.Bytes = []byte(canonicalText(text))
			}
		}
		data, err := asn1.MarshalWithParams(attributes, "set")
		if err != nil {
			return subject
		}
		out = append(out, data...)
	}
	return out
}

const (
	tagUniversalString = 28
	tagVisibleString   = 26
)

// textOf decodes a string of any of ASN.1's types.
func textOf(v *asn1.RawValue) (string, bool) {
	if v.Class != asn1.ClassUniversal {
		return "", false
	}
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, tagVisibleString:
		return string(v.Bytes), true
	case asn1.TagT61String:
		return string(latin1(v.Bytes)), true
	case asn1.TagBMPString:
		units := make([]uint16, len(v.Bytes)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(v.Bytes[2*i:])
		}
		return string(utf16.Decode(units)), true
	case tagUniversalString:
		runes := make([]rune, len(v.Bytes)/4)
		for i := range runes {
			runes[i] = rune(binary.BigEndian.Uint32(v.Bytes[4*i:]))
		}
		return string(runes), true
	}
	return "", false
}

func latin1(b []byte) []rune {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return runes
}

// canonicalText lowers ASCII letters and joins words with single spaces.
func canonicalText(s string) string {
	lower := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
	return strings.Join(strings.FieldsFunc(lower, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) }), " ")
}
