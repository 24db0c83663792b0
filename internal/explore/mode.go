package explore

import "github.com/micabuild/mica/internal/view"

// kinds are the letters of types in ls(1).
var kinds = map[view.Type]byte{
	view.TypeRegular: '-', view.TypeDir: 'd', view.TypeSymlink: 'l', view.TypeChar: 'c', view.TypeBlock: 'b', view.TypeFifo: 'p',
}

// mode is the type and the mode of an entry, as ls(1) shows them.
func mode(e *view.Entry) string {
	text := []byte("?rwxrwxrwx")
	if k, ok := kinds[e.Type]; ok {
		text[0] = k
	}
	for i := range 9 {
		if e.Mode&(1<<(8-i)) == 0 {
			text[1+i] = '-'
		}
	}
	for i, special := range []byte("sst") {
		if e.Mode&(0o4000>>i) == 0 {
			continue
		}
		if at := 3 + 3*i; text[at] == 'x' {
			text[at] = special
		} else {
			text[at] = special - 'a' + 'A'
		}
	}
	return string(text)
}
