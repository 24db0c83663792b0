package layer

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/erofs"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
)

// Of a folder, a power cut leaves files that are too short where their content was not on disk yet, which a glance sees. The
// sizes in a tree that is one file may be on disk before the contents are. Its label therefore says in which run of the kernel
// it was made, until it is sure to be on disk.

// settleTime is how long Linux keeps what is written from the disk at most, by default, and some more (vm.dirty_expire_centisecs).
const settleTime = time.Minute

// bootID is the first 120 bits of the number of the kernel's run, zeros where it is not known.
var bootID = sync.OnceValue(func() (id erofs.Label) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id
	}
	if b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", "")); err == nil {
		copy(id[:], b)
	}
	return id
})

// settle sees to it that a tree that a glance found whole has its contents, too.
func (l *Layers) settle(ctx context.Context, id digest.Digest, t *toc.Table) error {
	if l.treePath(id) != l.path(id, treeErofs) {
		return nil
	}
	tree, err := openErofs(l.path(id, treeErofs), l.host())
	if err != nil {
		return fail(id, err)
	}
	defer tree.close()
	switch tree.fs.Label() {
	case erofs.Label{}:
		return nil
	case bootID():
		if time.Since(tree.fs.ModTime()) < settleTime {
			return nil
		}
	default: // it may be from before a power cut
		packs, err := l.packs(id)
		if err == nil && len(packs) > 0 {
			err = fail(id, fmt.Errorf("its tree may be %w: the machine was restarted soon after it was made", store.ErrDamaged))
		}
		if err == nil {
			err = l.verifyContents(ctx, t)
		}
		if err != nil {
			return err
		}
	}
	_ = tree.fs.Settle() // else it is looked at again
	return nil
}
