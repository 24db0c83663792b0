//go:build e2e

package docker

import (
	"encoding/json"
	"reflect"
	"slices"
)

// olderFields are what Docker 20.10 shows of an image, and Docker of today and mica do not.
var olderFields = []string{"Parent", "Container", "ContainerConfig", "DockerVersion", "VirtualSize", "GraphDriver"}

// inspectWhole compares everything that inspect shows. Fields that Docker shows empty may be missing.
func (p *pair) inspectWhole(refs ...string) {
	p.t.Helper()
	for _, ref := range refs {
		var want, got []map[string]any
		p.parse(engine.Run(p.t, "inspect", ref), &want)
		p.parse(p.mica.Run("inspect", ref), &got)
		for _, f := range olderFields {
			delete(want[0], f)
		}
		// Docker lists names in no order, and when a tag was given is each store's own affair.
		for _, m := range []map[string]any{want[0], got[0]} {
			slices.SortFunc(m["RepoTags"].([]any), compareText)
			delete(m, "Metadata")
			// Docker's own builder notes the parent image.
			delete(m["Config"].(map[string]any), "Image")
		}
		if w, g := withoutEmpty(want[0]), withoutEmpty(got[0]); !reflect.DeepEqual(w, g) {
			p.t.Errorf("inspect %s:\n     %v\nwant %v", ref, g, w)
		}
	}
}

func compareText(a, b any) int {
	if a.(string) < b.(string) {
		return -1
	}
	return 1
}

func (p *pair) parse(text string, to any) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(text), to); err != nil {
		p.t.Fatal(err)
	}
}

// withoutEmpty leaves out fields of no value.
func withoutEmpty(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			e = withoutEmpty(e)
			empty := e == nil || e == "" || e == false || reflect.DeepEqual(e, []any{}) || reflect.DeepEqual(e, map[string]any{})
			// The empty object is the value of a set's member.
			if k == "Config" || !empty || isMember(k) {
				m[k] = e
			}
		}
		return m
	case []any:
		for i := range v {
			v[i] = withoutEmpty(v[i])
		}
		return v
	}
	return v
}

// isMember tells the members of ExposedPorts and Volumes, which are paths and ports, from fields.
func isMember(k string) bool { return k[0] == '/' || (k[0] >= '0' && k[0] <= '9') }
