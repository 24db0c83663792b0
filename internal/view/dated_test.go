package view

import "testing"

func TestDated(t *testing.T) {
	t.Parallel()
	v := Dated(tree(regular("d/f", "F"), symlink("l", "d")), now)
	for _, e := range []string{"d", "d/f", "l"} {
		if e, err := v.Lstat(t.Context(), e); err != nil || !e.ModTime.Equal(now) {
			t.Errorf("%v, %v", e, err)
		}
	}
	same(t, listing(t, v), []string{"d/", `d/f = "F"`, "l -> d"})
	if list, err := v.ReadDir(t.Context(), "."); err != nil || !list[1].ModTime.Equal(now) {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := v.Lstat(t.Context(), "no"); err == nil {
		t.Error("a missing file has a time")
	}
}
