package solver

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/redact"
)

// keyVersion is part of every key: raise it when the meaning of an operation changes, or how its key is made.
const keyVersion = 2

// Ingredient is one thing that a key is made of, in the words in which a miss is explained: Kind says what it is
// ("operation", "layers", "source", "owner"), Name which one, Value its content or the digest of it.
type Ingredient struct {
	Kind  string `json:"kind"`
	Name  string `json:"name,omitempty"`
	Value string `json:"value"`
}

// Key identifies an operation by what it does and by the content of what it reads. No time, host name or path of the
// machine is in it: the same inputs meet the same key anywhere.
type Key struct {
	Ingredients []Ingredient
	below       []*Result // whose chains are among the ingredients
}

func (k *Key) add(kind, name, value string) {
	k.Ingredients = append(k.Ingredients, Ingredient{kind, name, value})
}

// addLayers adds the chain beneath an operation by its ChainID (OCI image-spec, config.md), "" for that of no layers: what a
// key is made of does not grow with the steps before it.
func (k *Key) addLayers(name string, r *Result) {
	k.add("layers", name, r.chainID().String())
	k.below = append(k.below, r)
}

// addOperation adds the operation itself, as JSON.
func (k *Key) addOperation(kind string, op any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(op); err != nil {
		return fmt.Errorf("describe %s operation: %w", kind, err)
	}
	k.add("operation", kind, withoutCredentials(string(bytes.TrimSpace(buf.Bytes()))))
	return nil
}

// withoutCredentials takes the credentials of URLs out of what is kept in a record. Others are another operation all the same:
// a digest of the text as it was follows.
func withoutCredentials(operation string) string {
	shown := redact.URLs(operation)
	if shown == operation {
		return operation
	}
	return shown + " " + digest.FromString(operation).String()
}

// Digest is the key itself: the sha256 of the ingredients, each field preceded by its length.
func (k *Key) Digest() digest.Digest {
	h := digest.SHA256.Digester()
	fmt.Fprintf(h.Hash(), "mica-key-%d\n", keyVersion)
	for _, in := range k.Ingredients {
		for _, f := range []string{in.Kind, in.Name, in.Value} {
			fmt.Fprintf(h.Hash(), "%d:%s", len(f), f)
		}
	}
	return h.Digest()
}
