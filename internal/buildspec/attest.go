package buildspec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// The types of attestations.
const (
	AttestProvenance = "provenance"
	AttestSBOM       = "sbom"
)

// Attests are the attestations of a build: their attributes, by type.
type Attests map[string]map[string]string

// FrontendOption is the text of an attestation's attributes as BuildKit's front end reads it: "mode=max".
func (a Attests) FrontendOption(kind string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(a[kind])) {
		pairs = append(pairs, k+"="+a[kind][k])
	}
	if len(pairs) == 0 {
		return ""
	}
	return joinCSV(pairs)
}

// CanonicalAttest turns the value of --sbom or --provenance into that of --attest.
func CanonicalAttest(kind, value string) string {
	if on, err := strconv.ParseBool(value); err == nil {
		return fmt.Sprintf("type=%s,disabled=%t", kind, !on)
	}
	return fmt.Sprintf("type=%s,%s", kind, value)
}

// ParseAttests reads --attest.
func ParseAttests(list []string) (Attests, error) {
	var entries []Entry
	for _, s := range list {
		e, err := ParseAttest(s)
		if err != nil {
			return nil, fmt.Errorf("invalid attestation %q: %w", s, err)
		}
		entries = append(entries, e)
	}
	return NewAttests(entries)
}

// ParseAttest reads "type=provenance,mode=max". One that is disabled has the attribute "disabled" with the value "true".
func ParseAttest(text string) (Entry, error) {
	e, err := ParseEntry(text, func(k string) string {
		switch lower := trimLower(k); lower {
		case "type", "disabled":
			return lower
		}
		return k
	})
	if err == nil && e.Type == "" {
		err = errors.New("attestation type not specified")
	}
	if err == nil {
		err = FinishAttest(&e)
	}
	return e, err
}

// FinishAttest gives the attribute "disabled" its only form.
func FinishAttest(e *Entry) error {
	v, ok := e.Attrs["disabled"]
	if !ok {
		return nil
	}
	disabled, err := strconv.ParseBool(v)
	if err != nil {
		return fmt.Errorf("invalid value disabled=%s: neither true nor false", v)
	}
	delete(e.Attrs, "disabled")
	if disabled {
		e.Attrs["disabled"] = "true"
	}
	return nil
}

// NewAttests checks entries of attestations. The last of a type counts; a disabled one removes those before it.
func NewAttests(entries []Entry) (Attests, error) {
	attests := Attests{}
	for _, e := range entries {
		if e.Type != AttestProvenance && e.Type != AttestSBOM {
			return nil, fmt.Errorf("invalid attestation %q: the type is provenance or sbom", e)
		}
		delete(attests, e.Type)
		if e.Attrs["disabled"] == "" {
			attests[e.Type] = maps.Clone(e.Attrs)
		}
	}
	return attests, nil
}
