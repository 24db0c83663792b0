package engineapi

import (
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// limited is a container with little memory.
func limited(text string) client.ContainerCreateOptions {
	o := script(text)
	o.HostConfig.Memory, o.HostConfig.MemorySwap = 24<<20, 24<<20
	return o
}

// oomKilled reports what the state of a container says.
func (r *rig) oomKilled(id string) bool {
	r.t.Helper()
	got, err := r.ContainerInspect(r.t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return got.Container.State.OOMKilled
}

// listen returns the events with some names from now on.
func (r *rig) listen(names ...string) client.EventsResult {
	got := r.Events(r.t.Context(), client.EventsListOptions{Filters: client.Filters{}.Add("event", names...)})
	for r.server.events.listeners() == 0 {
		time.Sleep(time.Millisecond) // until the request has arrived
	}
	return got
}

// TestRootOOMKilled: a container of which the kernel has killed a process for lack of memory says so, until it is started again.
func TestRootOOMKilled(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	got := r.listen("oom", "die")
	id := r.create("first", limited(`[ -e /again ] && exit 3; : >/again; exec tail /dev/zero`))
	for _, c := range []struct {
		code   int64
		killed bool
		events []events.Action
	}{{137, true, []events.Action{events.ActionOOM, events.ActionDie}}, {3, false, []events.Action{events.ActionDie}}} {
		wait := r.exit(id, container.WaitConditionNextExit)
		r.start(id)
		if code := wait(); code != c.code {
			t.Errorf("exit code %d, want %d", code, c.code)
		}
		if r.oomKilled(id) != c.killed {
			t.Errorf("exit code %d: killed is not %t", c.code, c.killed)
		}
		for _, want := range c.events {
			if m := <-got.Messages; m.Action != want || m.Actor.ID != id {
				t.Errorf("%s of %s, want %s", m.Action, m.Actor.ID, want)
			}
		}
	}
}

// TestRootOOMKilledChild: the process that is killed need not be the first one, and the container still runs.
func TestRootOOMKilledChild(t *testing.T) {
	t.Parallel()
	r := newRootRig(t)
	got := r.listen("oom")
	id := r.create("child", limited(`tail /dev/zero; exec sleep 1000`))
	r.start(id)
	if m := <-got.Messages; m.Actor.ID != id {
		t.Errorf("%+v", m)
	}
	if !r.oomKilled(id) {
		t.Error("the container does not say so")
	}
	if _, err := r.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
}
