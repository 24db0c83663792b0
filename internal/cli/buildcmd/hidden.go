package buildcmd

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cli/command"
)

// addHidden adds the flags of earlier builders that buildx accepts and does not show: limits in the form before --resource, and
// flags that have no meaning any more.
func (f *buildFlags) addHidden(fl *pflag.FlagSet) {
	for _, l := range []struct{ name, short string }{
		{"memory", "m"}, {"memory-swap", ""}, {"cpu-shares", "c"}, {"cpu-period", ""}, {"cpu-quota", ""}, {"cpuset-cpus", ""}, {"cpuset-mems", ""},
	} {
		fl.VarP(&limitFlag{&f.limits, l.name}, l.name, l.short, "Same as --resource "+l.name+"=")
		command.Hide(fl, l.name)
	}
	fl.StringVar(&f.call, "print", "build", "Same as --call")
	fl.Bool("rm", true, "Remove intermediate containers after a successful build (ignored: there are none)")
	fl.Bool("force-rm", false, "Always remove intermediate containers (ignored: there are none)")
	fl.Bool("compress", false, "Compress the build context (ignored: it is not sent)")
	command.Hide(fl, "print", "rm", "force-rm", "compress")
	fl.StringSlice("security-opt", nil, "Security options")
	fl.Bool("squash", false, "Squash newly built layers into one")
	for name := range unused {
		command.Hide(fl, name)
	}
}

// unused are flags whose users expect an effect that they do not have, with a hint.
var unused = map[string]string{
	"security-opt": `, "RUN --security=insecure" is`,
	"squash":       ", for one layer copy from a stage",
}

// warnUnused warns of the flags that were given and are not used.
func warnUnused(app *command.App, fl *pflag.FlagSet) {
	for _, name := range slices.Sorted(maps.Keys(unused)) {
		if fl.Changed(name) {
			fmt.Fprintf(app.Stderr, "WARNING: --%s is not used%s\n", name, unused[name])
		}
	}
}

// limitFlag is a limit that has a flag of its own.
type limitFlag struct {
	limits *[]string
	key    string
}

func (l *limitFlag) String() string { return "" }

// Type is the name of a value in the help.
func (l *limitFlag) Type() string { return "string" }

// Set adds the limit.
func (l *limitFlag) Set(value string) error {
	*l.limits = append(*l.limits, l.key+"="+value)
	return nil
}
