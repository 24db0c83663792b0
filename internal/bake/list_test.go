package bake

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestList(t *testing.T) {
	t.Parallel()
	config, variables, err := Parse([]File{{"docker-bake.hcl", []byte(`
variable "TAG" {
  default = "v1"
  description = "The tag"
}
variable "COUNT" {
  type = number
  default = null
}
group "default" { targets = ["web", "db"] }
group "both" {
  description = "Both of them"
  targets = ["web", "db"]
}
group "nothing" { targets = [] }
group "_private" { targets = ["web"] }
target "web" { description = "The web" }
target "db" {}
target "_base" {}
target "cell" {
  name = "cell-${x}"
  matrix = { x = ["b", "a"] }
}
`)}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Listed{
		{Name: "both", Description: "Both of them (db, web)", Group: true},
		{Name: "cell", Description: "cell-a, cell-b", Group: true},
		{Name: "cell-a"},
		{Name: "cell-b"},
		{Name: "db"},
		{Name: "default", Description: "db, web", Group: true},
		{Name: "nothing", Group: true},
		{Name: "web", Description: "The web"},
	}
	if diff := cmp.Diff(want, config.List()); diff != "" {
		t.Error(diff)
	}
	got := map[string]string{}
	for _, v := range variables {
		value := "null"
		if v.Value != nil {
			value = *v.Value
		}
		got[v.Name] = v.Type + "=" + value + " " + v.Description
	}
	if diff := cmp.Diff(map[string]string{"TAG": "=v1 The tag", "COUNT": "number=null "}, got); diff != "" {
		t.Error(diff)
	}
}
