package cli

import (
	"encoding/json"
	"testing"
)

func TestStepLimits(t *testing.T) {
	limits, err := parseResources([]string{"memory=20m,memory-swap=-1", "cpu-quota=1000", "cpu-period=2000,cpu-shares=3", `"cpuset-cpus=0,1"`})
	if err != nil {
		t.Fatal(err)
	}
	r, err := stepLimits(limits)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(r)
	if want := `{"memory":{"limit":20971520,"swap":-1},"cpu":{"shares":3,"quota":1000,"period":2000,"cpus":"0,1"}}`; err != nil || string(data) != want {
		t.Errorf("%s, %v, want %s", data, err, want)
	}
	if _, err := stepLimits(map[string]string{"cpuquota": "x"}); err == nil {
		t.Error("a quota of x is accepted")
	}
}
