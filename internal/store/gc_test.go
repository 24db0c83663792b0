package store

import (
	"sync"
	"testing"
)

// Users that come and go all the time do not keep a sweep waiting for ever.
func TestSweepPassesManyUsers(t *testing.T) {
	s := newStore(t)
	stop := make(chan struct{})
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				l, err := s.Use(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if err := l.Unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		l, err := s.Sweep(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Unlock(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	users.Wait()
}
