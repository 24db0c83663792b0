// Package buildcache records what the steps of builds made: keys, records, and the chains of layers that are their results.
package buildcache

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/view"
)

// keyVersion is part of every key: raise it when the meaning of an operation changes, or how its key is made.
const keyVersion = 2

// The kinds of ingredients.
const (
	KindOperation = "operation" // what the step does, as JSON; the name is "exec", "file" or "diff"
	KindPlatform  = "platform"  // the platform of a process; without a name
	KindLayers    = "layers"    // a chain that the result is built on or made of, by its ChainID; the name is its role in the step
	KindMount     = "mount"     // the digest of the files that a process finds mounted at the path in the name
	KindNetwork   = "network"   // "proxy" for a process whose only network is a proxy; without a name
	KindOutput    = "output"    // the number of the only output that a record has; without a name
	KindSource    = "source"    // the digest of the files that a copy selects by the path in the name, or of what was downloaded
)

// Ingredient is one part of a key; the record contains it, so that a miss can be explained. Name identifies one of its Kind, Value is
// its content or the digest of it.
type Ingredient struct {
	Kind  string `json:"kind"`
	Name  string `json:"name,omitempty"`
	Value string `json:"value"`
}

// Origin says where an ingredient comes from. It is not part of the key.
type Origin struct {
	// Input is the index of the step's input that has it, -1 for none.
	Input int
	// List lists the files that the ingredient is the digest of; nil for one that is not files.
	List func(ctx context.Context) (*view.Listing, error)
}

// Key identifies a step by its definition and by the content that it reads. It contains no time, host name or path of the
// machine: the same inputs give the same key on every machine.
type Key struct {
	Ingredients []Ingredient
	Origins     []Origin // of the ingredients
	below       []Chain  // that the result is built on
}

// Add adds an ingredient.
func (k *Key) Add(kind, name, value string) {
	k.add(Ingredient{kind, name, value}, Origin{Input: -1})
}

func (k *Key) add(in Ingredient, from Origin) {
	k.Ingredients = append(k.Ingredients, in)
	k.Origins = append(k.Origins, from)
}

// AddFiles adds the digest of the files that a copy of src from an input would read. files is that input's filesystem.
func (k *Key) AddFiles(ctx context.Context, input int, kind, name string, files view.View, src string, opt view.CopyOptions) error {
	sum, listed, err := view.Select(ctx, files, src, opt)
	if err != nil {
		return err
	}
	k.add(Ingredient{kind, name, sum}, Origin{input, func(ctx context.Context) (*view.Listing, error) {
		if listed != nil {
			return listed, nil
		}
		return view.List(ctx, files, src, opt)
	}})
	return nil
}

// AddLayers adds the chain of an input that the result is built on. input is its index, -1 for none.
func (k *Key) AddLayers(input int, name string, c Chain) {
	k.AddChain(input, name, c)
	k.below = append(k.below, c)
}

// AddChain adds the chain of an input that the operation reads, by its ChainID (OCI image-spec, config.md), "" for the empty chain, so that a key
// does not grow with the number of steps before it.
func (k *Key) AddChain(input int, name string, c Chain) {
	k.add(Ingredient{KindLayers, name, c.ID().String()}, Origin{Input: input})
}

// Output returns the key of one output of the operation, for a record of it alone: a remote cache need not have all.
func (k *Key) Output(n int) Key {
	out := Key{Ingredients: slices.Clone(k.Ingredients), Origins: slices.Clone(k.Origins), below: k.below}
	out.Add(KindOutput, "", strconv.Itoa(n))
	return out
}

// AddOperation adds the operation itself, as JSON.
func (k *Key) AddOperation(name string, op any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(op); err != nil {
		return fmt.Errorf("describe %s operation: %w", name, err)
	}
	k.Add(KindOperation, name, withoutCredentials(string(bytes.TrimSpace(buf.Bytes()))))
	return nil
}

// withoutCredentials removes the credentials of URLs from an operation. A digest of the original text follows, since an operation
// with other credentials is another operation.
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
