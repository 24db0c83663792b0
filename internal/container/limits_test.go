package container

import (
	"encoding/json"
	"testing"
)

// TestResources: what docker's daemon makes of the limits of its API.
func TestResources(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		of   Limits
		want string
	}{
		"none":                    {Limits{Swappiness: -1}, `{}`},
		"memory":                  {Limits{Swappiness: -1, Memory: 20 << 20}, `{"memory":{"limit":20971520,"swap":41943040}}`},
		"memory, any swap":        {Limits{Swappiness: -1, Memory: 20 << 20, Swap: -1}, `{"memory":{"limit":20971520,"swap":-1}}`},
		"memory and swap":         {Limits{Swappiness: -1, Memory: 20 << 20, Swap: 30 << 20}, `{"memory":{"limit":20971520,"swap":31457280}}`},
		"any swap alone":          {Limits{Swappiness: -1, Swap: -1}, `{}`},
		"swap alone":              {Limits{Swappiness: -1, Swap: 20 << 20}, "You should always set the Memory limit when using Memoryswap limit, see usage"},
		"reservation":             {Limits{Swappiness: -1, Reservation: 6 << 20}, `{"memory":{"reservation":6291456}}`},
		"swappiness":              {Limits{}, `{"memory":{"swappiness":0}}`},
		"much swappiness":         {Limits{Swappiness: 101}, "invalid value: 101. Valid memory swappiness range is 0-100"},
		"OOM":                     {Limits{Swappiness: -1, OOMKillDisable: true}, `{"memory":{"disableOOMKiller":true}}`},
		"half a processor":        {Limits{Swappiness: -1, NanoCPUs: 5e8}, `{"cpu":{"quota":50000,"period":100000}}`},
		"half of it, and quota":   {Limits{Swappiness: -1, NanoCPUs: 5e8, Quota: 1000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"},
		"half of it, and period":  {Limits{Swappiness: -1, NanoCPUs: 5e8, Period: 1000}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"},
		"quota and period":        {Limits{Swappiness: -1, Quota: 1000, Period: 2000}, `{"cpu":{"quota":1000,"period":2000}}`},
		"no quota":                {Limits{Swappiness: -1, Quota: -1}, `{}`},
		"shares and sets":         {Limits{Swappiness: -1, Shares: 512, CpusetCPUs: "0", CpusetMems: "0"}, `{"cpu":{"shares":512,"cpus":"0","mems":"0"}}`},
		"negative shares":         {Limits{Swappiness: -1, Shares: -1}, "shares: invalid argument"},
		"processes, IO":           {Limits{Swappiness: -1, PIDs: 9, IOWeight: 10}, `{"pids":{"limit":9},"blockIO":{"weight":10}}`},
		"any number of processes": {Limits{Swappiness: -1, PIDs: -1}, `{}`},
		"too little IO":           {Limits{Swappiness: -1, IOWeight: 9}, "Range of blkio weight is from 10 to 1000"},
		"too little memory":       {Limits{Swappiness: -1, Memory: 5 << 20}, "Minimum memory limit allowed is 6MB"},
	} {
		r, err := c.of.Resources()
		got := text(err)
		if err == nil {
			data, jsonErr := json.Marshal(r)
			if jsonErr != nil {
				t.Fatal(jsonErr)
			}
			got = string(data)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestCheckOOMScore(t *testing.T) {
	t.Parallel()
	for score, want := range map[int]string{
		0: "", 1001: "Invalid value 1001, range for oom score adj is [-1000, 1000]", -1001: "Invalid value -1001, range for oom score adj is [-1000, 1000]",
	} {
		if err := CheckOOMScore(score); text(err) != want {
			t.Errorf("%d: %v, want %q", score, err, want)
		}
	}
}
