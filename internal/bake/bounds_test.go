package bake

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

func TestEvaluationIsBounded(t *testing.T) {
	if err := bounded(func() {}); err != nil {
		t.Error(err)
	}
	stop := make(chan struct{})
	err := bounded(func() {
		var kept [][]byte // of which the kernel gives nothing until it is written to
		for range 20 {
			kept = append(kept, make([]byte, 100<<20))
		}
		<-stop
		runtime.KeepAlive(kept)
	})
	close(stop)
	if err == nil || !strings.Contains(err.Error(), "more than 1024 MiB of memory") {
		t.Error(err)
	}
}

func TestAliasesOfAliases(t *testing.T) {
	aliases := "x-a: &a [l,l,l,l,l,l,l,l,l]\n"
	for c := 'b'; c < 'j'; c++ {
		aliases += fmt.Sprintf("x-%c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 9))
	}
	_, _, err := Parse([]File{{Name: "compose.yaml", Data: []byte(aliases + "services: {web: {build: .}}\n")}}, Options{})
	if err == nil || !strings.Contains(err.Error(), "excessive aliasing") {
		t.Error(err)
	}
}
