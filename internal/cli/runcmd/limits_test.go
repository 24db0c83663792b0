package runcmd

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestRunLimits(t *testing.T) {
	for flags, want := range map[string]string{
		"":                                       `{}`,
		"-m 20m":                                 `{"memory":{"limit":20971520,"swap":41943040}}`,
		"-m 20m --memory-swap -1":                `{"memory":{"limit":20971520,"swap":-1}}`,
		"--memory=1g --memory-swap 1.5g":         `{"memory":{"limit":1073741824,"swap":1610612736}}`,
		"--memory-swap -1":                       `{}`,
		"--memory-reservation 6mb":               `{"memory":{"reservation":6291456}}`,
		"--memory-swappiness 0":                  `{"memory":{"swappiness":0}}`,
		"--oom-kill-disable":                     `{"memory":{"disableOOMKiller":true}}`,
		"--cpus .5":                              `{"cpu":{"quota":50000,"period":100000}}`,
		"--cpu-quota -1":                         `{}`,
		"--cpu-quota 1000 --cpu-period 2000":     `{"cpu":{"quota":1000,"period":2000}}`,
		"-c 512 --cpuset-cpus 0 --cpuset-mems 0": `{"cpu":{"shares":512,"cpus":"0","mems":"0"}}`,
		"--pids-limit 0":                         `{}`,
		"--pids-limit -1":                        `{}`,
		"--pids-limit 9 --blkio-weight 10":       `{"pids":{"limit":9},"blockIO":{"weight":10}}`,
		"-m 5m":                                  "Minimum memory limit allowed is 6MB",
		"-m x":                                   `invalid argument "x" for "-m, --memory" flag: invalid size: 'x'`,
		"--memory-swap 20m":                      "You should always set the Memory limit when using Memoryswap limit, see usage",
		"--memory-swappiness 101":                "invalid value: 101. Valid memory swappiness range is 0-100",
		"--memory-swappiness -2":                 "invalid value: -2. Valid memory swappiness range is 0-100",
		"--cpus 1 --cpu-period 1000":             "Conflicting options: Nano CPUs and CPU Period cannot both be set",
		"--cpus 1 --cpu-quota 1000":              "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
		"--cpus 0.0000000001":                    `invalid argument "0.0000000001" for "--cpus" flag: value is too precise`,
		"--cpu-shares -5":                        "shares: invalid argument",
		"--cpu-period -5":                        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
		"--blkio-weight 9":                       "Range of blkio weight is from 10 to 1000",
	} {
		if got := limitsOf(t, strings.Fields(flags)); got != want {
			t.Errorf("%s: %s, want %s", flags, got, want)
		}
	}
}

// limitsOf is what flags come to, as JSON, or the error.
func limitsOf(t *testing.T, flags []string) string {
	t.Helper()
	var l runLimits
	fl := pflag.NewFlagSet("run", pflag.ContinueOnError)
	l.add(fl)
	if err := fl.Parse(flags); err != nil {
		return err.Error()
	}
	r, err := l.Resources()
	if err != nil {
		return err.Error()
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
