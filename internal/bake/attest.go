package bake

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// Attests are the attestations of a target. One that is disabled has the attribute "disabled" with the value "true".
type Attests []Entry

// CanonicalAttest turns the value of --sbom or --provenance into that of --attest.
func CanonicalAttest(kind, value string) string {
	if b, err := strconv.ParseBool(value); err == nil {
		return fmt.Sprintf("type=%s,disabled=%t", kind, !b)
	}
	return fmt.Sprintf("type=%s,%s", kind, value)
}

func parseAttest(text string) ([]Entry, error) {
	e, err := splitEntry(text, func(k string) string {
		switch known := strings.TrimSpace(strings.ToLower(k)); known {
		case "type", "disabled":
			return known
		}
		return k
	})
	if err == nil && e.Type == "" {
		err = errors.New("attestation type not specified")
	}
	if err == nil {
		err = finishAttest(&e)
	}
	return []Entry{e}, err
}

func finishAttest(e *Entry) error {
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

// FromCtyValue is told what a file has (hclparser.FromCtyValueConverter).
func (a *Attests) FromCtyValue(in cty.Value, p cty.Path) (err error) {
	*a, err = parseEntries(in, p, parseAttest, finishAttest)
	return err
}

// ToCtyValue is what other targets see (hclparser.ToCtyValueConverter).
func (a Attests) ToCtyValue() cty.Value { return entriesToCty(a) }

func (a Attests) normal() Attests {
	return replaceByKey(a, func(e Entry) string { return e.Type })
}

// MarshalJSON writes disabled as a boolean, as buildx does.
func (a Attests) MarshalJSON() ([]byte, error) {
	out := []map[string]any{}
	for _, e := range a {
		m := map[string]any{"type": e.Type}
		for k, v := range maps.All(e.Attrs) {
			m[k] = v
		}
		if _, ok := e.Attrs["disabled"]; ok {
			m["disabled"] = true
		}
		out = append(out, m)
	}
	return json.Marshal(out)
}
