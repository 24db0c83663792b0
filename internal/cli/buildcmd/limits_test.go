package buildcmd

import (
	"encoding/json"
	"testing"

	"github.com/micabuild/mica/internal/buildspec"
)

func TestLinuxResources(t *testing.T) {
	t.Parallel()
	limits, err := buildspec.ParseLimits([]string{"memory=20m,memory-swap=-1", "cpu-quota=1000", "cpu-period=2000,cpu-shares=3", `"cpuset-cpus=0,1"`})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(linuxResources(&limits))
	if want := `{"memory":{"limit":20971520,"swap":-1},"cpu":{"shares":3,"quota":1000,"period":2000,"cpus":"0,1"}}`; err != nil || string(data) != want {
		t.Errorf("%s, %v, want %s", data, err, want)
	}
	data, err = json.Marshal(linuxResources(&buildspec.Limits{}))
	if err != nil || string(data) != "{}" {
		t.Errorf("no limits: %s, %v", data, err)
	}
}
