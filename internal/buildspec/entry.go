package buildspec

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tonistiigi/go-csvvalue"
)

// Entry is a value that has a type and attributes, such as an output, a cache or an attestation: "type=local,dest=out".
type Entry struct {
	Type  string
	Attrs map[string]string
}

// String is the entry as a flag has it.
func (e Entry) String() string {
	pairs := []string{"type=" + e.Type}
	for _, k := range slices.Sorted(maps.Keys(e.Attrs)) {
		pairs = append(pairs, k+"="+e.Attrs[k])
	}
	return joinCSV(pairs)
}

// Equal reports whether two entries mean the same.
func (e Entry) Equal(o Entry) bool { return e.Type == o.Type && maps.Equal(e.Attrs, o.Attrs) }

// Clone returns an entry with attributes of its own.
func (e Entry) Clone() Entry { return Entry{e.Type, maps.Clone(e.Attrs)} }

// MarshalJSON writes the type among the attributes.
func (e Entry) MarshalJSON() ([]byte, error) { return json.Marshal(e.Map()) }

// Map returns the type and the attributes as one map.
func (e Entry) Map() map[string]string {
	m := map[string]string{"type": e.Type}
	maps.Copy(m, e.Attrs)
	return m
}

// joinCSV quotes fields where they need it.
func joinCSV(fields []string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(fields)
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// ParseEntry reads "type=…,key=value,…". name gives a key the form in which it is kept.
func ParseEntry(text string, name func(string) string) (Entry, error) {
	e := Entry{Attrs: map[string]string{}}
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return e, err
	}
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return e, fmt.Errorf("invalid value %s: expected key=value", f)
		}
		if key = name(key); key == "type" {
			e.Type = value
		} else {
			e.Attrs[key] = value
		}
	}
	return e, nil
}

// trimLower is the form of keys that case and spaces do not distinguish.
func trimLower(key string) string { return strings.ToLower(strings.TrimSpace(key)) }
