package userns

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// writeFile makes a file with a text, and returns its path.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadMap(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want []idRange
		err  string
	}{
		"of the host": {text: "         0          0 4294967295\n", want: []idRange{whole}},
		"rootless": {
			text: "         0       1000          1\n         1     100000      65536\n", want: []idRange{{0, 1000, 1}, {1, 100000, 65536}},
		},
		"nothing":      {},
		"not numbers":  {text: "0 x 1\n", err: "expected integer"},
		"two columns":  {text: "0 1\n", err: "EOF"},
		"short number": {text: "0 1 1\n7\n", err: "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readMap(writeFile(t, c.text))
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("%v, want %q", err, c.err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	if _, err := readMap("/no/such"); !os.IsNotExist(err) {
		t.Errorf("missing file: %v", err)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ids            IDs
		nested, single bool
		groups         map[int]bool
		last           uint32
	}{
		"of the host": {
			ids:    IDs{[]idRange{whole}, []idRange{whole}},
			groups: map[int]bool{0: true, 4294967294: true, 4294967295: false}, last: 4294967294,
		},
		"rootless": {
			ids:    IDs{[]idRange{{0, 1000, 1}, {1, 100000, 65536}}, []idRange{{0, 1000, 1}, {1, 100000, 65536}}},
			nested: true, groups: map[int]bool{0: true, 1: true, 65536: true, 65537: false, -1: false}, last: 65536,
		},
		"one id": {
			ids: IDs{[]idRange{{0, 1000, 1}}, []idRange{{0, 1000, 1}}}, nested: true, single: true, groups: map[int]bool{0: true, 1: false},
		},
		"ranges out of order": {
			ids:    IDs{[]idRange{whole}, []idRange{{10, 500, 5}, {0, 1, 3}, {3, 200, 7}}},
			groups: map[int]bool{2: true, 3: true, 14: true, 15: false}, last: 14,
		},
		"a gap": {
			ids: IDs{[]idRange{whole}, []idRange{{0, 1, 3}, {5, 200, 7}}}, groups: map[int]bool{2: true, 3: false, 5: true}, last: 2,
		},
		"no groups": {ids: IDs{[]idRange{whole}, nil}, groups: map[int]bool{0: false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.ids.Nested() != c.nested || c.ids.Single() != c.single {
				t.Errorf("nested %t, single %t", c.ids.Nested(), c.ids.Single())
			}
			if got := c.ids.LastGroup(); got != c.last {
				t.Errorf("last group %d, want %d", got, c.last)
			}
			for gid, want := range c.groups {
				if c.ids.HasGroup(gid) != want {
					t.Errorf("group %d: %t", gid, !want)
				}
			}
		})
	}
}

func TestPlanMaps(t *testing.T) {
	t.Parallel()
	ann := account{"ann", 1000, 100}
	for name, c := range map[string]struct {
		user           account
		subuid, subgid string
		want           mapPlan
	}{
		"by name": {
			user: ann, subuid: "bob:100000:65536\nann:200000:65536\n", subgid: "ann:300000:1000\n",
			want: mapPlan{uids: []idRange{{0, 1000, 1}, {1, 200000, 65536}}, gids: []idRange{{0, 100, 1}, {1, 300000, 1000}}},
		},
		"by number": {
			user: ann, subuid: "1000:200000:10\n", subgid: "1000:300000:10\n",
			want: mapPlan{uids: []idRange{{0, 1000, 1}, {1, 200000, 10}}, gids: []idRange{{0, 100, 1}, {1, 300000, 10}}},
		},
		"several ranges": {
			user: ann, subuid: "ann:200000:10\n1000:500000:5\n", subgid: "ann:300000:10\n",
			want: mapPlan{uids: []idRange{{0, 1000, 1}, {1, 200000, 10}, {11, 500000, 5}}, gids: []idRange{{0, 100, 1}, {1, 300000, 10}}},
		},
		"empty range": {
			user: ann, subuid: "ann:200000:0\nann:500000:5\n", subgid: "ann:300000:10\n",
			want: mapPlan{uids: []idRange{{0, 1000, 1}, {1, 500000, 5}}, gids: []idRange{{0, 100, 1}, {1, 300000, 10}}},
		},
		"of others":       {user: ann, subuid: "bob:200000:10\n", subgid: "bob:300000:10\n"},
		"without groups":  {user: ann, subuid: "ann:200000:10\n", subgid: ""},
		"the gid's range": {user: account{"1000", 1000, 2000}, subuid: "2000:1:1\n", subgid: "2000:1:1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := planMaps(c.user, writeFile(t, c.subuid), writeFile(t, c.subgid))
			if err != nil || !reflect.DeepEqual(*got, c.want) {
				t.Errorf("%v, %v; want %v", got, err, c.want)
			}
		})
	}
	got, err := planMaps(ann, "/no/such", "/no/such")
	if err != nil || len(got.uids)+len(got.gids) != 0 {
		t.Errorf("without files: %v, %v", got, err)
	}
}

func TestOwnMaps(t *testing.T) {
	t.Parallel()
	var attr syscall.SysProcAttr
	(&mapPlan{uids: []idRange{{0, 1, 1}}}).own(&attr)
	if attr.UidMappings != nil || attr.GidMappings != nil {
		t.Errorf("the helpers map ranges, not the kernel: %+v", attr)
	}
	(&mapPlan{}).own(&attr)
	want := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	if !reflect.DeepEqual(attr.UidMappings, want) || attr.GidMappings[0].HostID != os.Getgid() {
		t.Errorf("%+v", attr)
	}
}

// Root that may map ids keeps those that it has. The map differs from that of the host's namespace.
func TestOwnMapsOfRoot(t *testing.T) {
	t.Parallel()
	var attr syscall.SysProcAttr
	(&mapPlan{all: &IDs{[]idRange{{0, 200000, 1000}, {1000, 5, 1}}, []idRange{whole}}}).own(&attr)
	users := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1000}, {ContainerID: 1000, HostID: 1000, Size: 1}}
	groups := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: whole.size - 1}}
	if !reflect.DeepEqual(attr.UidMappings, users) || !reflect.DeepEqual(attr.GidMappings, groups) || !attr.GidMappingsEnableSetgroups {
		t.Errorf("%+v", attr)
	}
}

func TestHelperArgs(t *testing.T) {
	t.Parallel()
	got := fmt.Sprint(helperArgs(7, []idRange{{0, 1000, 1}, {1, 100000, 65536}}))
	if want := "[7 0 1000 1 1 100000 65536]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRootEnter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("an ordinary user's process starts anew")
	}
	if err := Enter([]string{"mica"}); err != nil {
		t.Error(err)
	}
}
