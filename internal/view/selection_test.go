package view

import (
	"fmt"
	"io/fs"
	"testing"
	"time"
)

// selected is the tree whose digests are compared; each case changes something in it.
func selected(change ...member) View {
	return tree(with([]member{
		directory("d"), regular("d/a", "A"), regular("d/b", "B"), directory("d/sub"), regular("d/sub/c", "C"), symlink("d/link", "a"),
		device("d/null", TypeChar, 1, 3), regular("other", "x"), symlink("into", "d"),
	}, change...)...)
}

func TestSelectionDigest(t *testing.T) {
	t.Parallel()
	plain := CopyOptions{DirCopyContents: true, FollowSymlink: true, AllowWildcard: true}
	withoutB := plain
	withoutB.ExcludePatterns = []string{"b"}
	onlySub := plain
	onlySub.IncludePatterns = []string{"sub"}
	for _, c := range []struct {
		name   string
		src    string // "d" if empty
		opt    *CopyOptions
		change []member
		same   bool
	}{
		{name: "nothing", same: true},
		{name: "the times", change: []member{regular("d/a", "A").time(now), directory("d").time(now), directory("d/sub").time(now), symlink("d/link", "a").time(now)}, same: true},
		{name: "what is not selected", change: []member{regular("other", "y"), regular("new", "")}, same: true},
		{name: "what is excluded", opt: &withoutB, change: []member{regular("d/b", "changed").mode(0o600)}, same: true},
		{name: "what is not included", opt: &onlySub, change: []member{regular("d/a", "changed"), regular("d/new", "")}, same: true},
		{name: "what is not matched", src: "d/[ab]", change: []member{regular("d/c", "changed")}, same: true},
		{name: "behind a link, the link's other target", src: "into/a", change: []member{regular("d/b", "changed")}, same: true},
		{name: "content", change: []member{regular("d/a", "Z")}},
		{name: "content in a directory", change: []member{regular("d/sub/c", "Z")}},
		{name: "content included", opt: &onlySub, change: []member{regular("d/sub/c", "Z")}},
		{name: "content matched", src: "d/[ab]", change: []member{regular("d/b", "Z")}},
		{name: "content behind a link", src: "into/a", change: []member{regular("d/a", "Z")}},
		{name: "content of a single file", src: "other", change: []member{regular("other", "Z")}},
		{name: "mode", change: []member{regular("d/a", "A").mode(0o755)}},
		{name: "mode of a directory", change: []member{directory("d/sub").mode(0o700)}},
		{name: "special bits", change: []member{regular("d/a", "A").mode(0o4644)}},
		{name: "user", change: []member{regular("d/a", "A").owner(1, 0)}},
		{name: "group", change: []member{regular("d/a", "A").owner(0, 1)}},
		{name: "attributes", change: []member{regular("d/a", "A").xattr("user.k", "v")}},
		{name: "a link's target", change: []member{symlink("d/link", "b")}},
		{name: "a device's number", change: []member{device("d/null", TypeChar, 1, 5)}},
		{name: "a device's type", change: []member{device("d/null", TypeBlock, 1, 3)}},
		{name: "a file added", change: []member{regular("d/new", "")}},
		{name: "an empty directory added", change: []member{directory("d/new")}},
		{name: "a file added that a wildcard matches", src: "d/*", change: []member{regular("d/new", "")}},
		{name: "a file became a directory", change: []member{directory("d/a")}},
		{name: "a copy became a hardlink", change: []member{regular("d/b", "A"), hardlink("d/b", "d/a")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt, src := plain, "d"
			if c.opt != nil {
				opt = *c.opt
			}
			if c.src != "" {
				src = c.src
			}
			before, err := SelectionDigest(t.Context(), selected(), src, opt)
			if err != nil {
				t.Fatal(err)
			}
			after, err := SelectionDigest(t.Context(), selected(c.change...), src, opt)
			if err != nil {
				t.Fatal(err)
			}
			if (before == after) != c.same {
				t.Errorf("digests %s and %s, want the same: %v", before, after, c.same)
			}
		})
	}
}

func TestSelectionDigestSeesNames(t *testing.T) {
	t.Parallel()
	one, two := tree(regular("d/a1", "1"), regular("x", "1")), tree(regular("d/a2", "1"), regular("y", "1"))
	sum := func(v View, src string) string {
		t.Helper()
		s, err := SelectionDigest(t.Context(), v, src, CopyOptions{AllowWildcard: true, DirCopyContents: true})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if sum(one, "d") == sum(two, "d") {
		t.Error("a file's name in a directory does not count")
	}
	if sum(one, "d/a*") == sum(two, "d/a*") {
		t.Error("the name of a file that a wildcard matches does not count")
	}
	if sum(one, "x") != sum(two, "y") {
		t.Error("the name of a single file counts, which the operation has itself")
	}
}

func TestSelectionDigestOptions(t *testing.T) {
	t.Parallel()
	ns := int64(5)
	plain := CopyOptions{DirCopyContents: true}
	want, err := SelectionDigest(t.Context(), selected(), "d", plain)
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]func(*CopyOptions){
		"owner":         func(o *CopyOptions) { o.Owner = someone },
		"mode":          func(o *CopyOptions) { o.Mode = modeOf(0o600) },
		"symbolic mode": func(o *CopyOptions) { o.ModeStr = "u+x" },
		"time":          func(o *CopyOptions) { o.ModTime = &ns },
		"unpack":        func(o *CopyOptions) { o.AttemptUnpack = true },
		"dest path":     func(o *CopyOptions) { o.CreateDestPath = true },
	} {
		opt := plain
		set(&opt)
		if got, err := SelectionDigest(t.Context(), selected(), "d", opt); err != nil || got != want {
			t.Errorf("with %s the digest is %s, %v: it is of what is read, not of what is made of it", name, got, err)
		}
	}
}

func TestSelectionDigestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, src string
		v         View
		opt       CopyOptions
		kind      error
	}{
		{"missing", "no", selected(), CopyOptions{}, fs.ErrNotExist},
		{"no match", "no*", selected(), CopyOptions{AllowWildcard: true}, fs.ErrNotExist},
		{"a required path is missing", "/", selected(), CopyOptions{DirCopyContents: true, IncludePatterns: []string{"no"}, RequiredPaths: []string{"/no"}}, fs.ErrNotExist},
		{"a directory that cannot be read", "d", broken{selected(), "d/sub"}, CopyOptions{}, errBroken},
		{"a file that cannot be read", "d", unreadable{selected()}, CopyOptions{}, errBroken},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := SelectionDigest(t.Context(), c.v, c.src, c.opt)
			fails(t, err, c.kind, "")
		})
	}
	empty, err := SelectionDigest(t.Context(), selected(), "no*", CopyOptions{AllowWildcard: true, AllowEmptyWildcard: true})
	if err != nil || empty == "" {
		t.Errorf("digest of nothing, where that is allowed: %q, %v", empty, err)
	}
}

func TestSelectionDigestOfManyFiles(t *testing.T) {
	t.Parallel()
	const files = 64
	var many []member
	for i := range files {
		many = append(many, regular(fmt.Sprintf("d/%03d", i), fmt.Sprint(i)))
	}
	sums := map[string]int{}
	for i := range files {
		changed := with(many, regular(fmt.Sprintf("d/%03d", i), "changed").time(time.Unix(int64(i), 0)))
		sum, err := SelectionDigest(t.Context(), tree(changed...), "d", CopyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sums[sum]++
	}
	if len(sums) != files {
		t.Errorf("%d different directories have %d digests", files, len(sums))
	}
}
