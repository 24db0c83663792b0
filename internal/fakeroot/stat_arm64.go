package fakeroot

import "golang.org/x/sys/unix"

func newStat(x *unix.Statx_t) unix.Stat_t {
	st := commonStat(x)
	st.Nlink, st.Blksize = x.Nlink, int32(x.Blksize) //nolint:gosec // a size of blocks
	return st
}
