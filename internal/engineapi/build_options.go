package engineapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/docker/go-units"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/image"
)

// buildOptions reads the query of a classic build. Nothing in it names files of the server.
func buildOptions(r *http.Request) (*builder.Options, error) {
	q := r.URL.Query()
	if err := checkBuild(r, q); err != nil {
		return nil, err
	}
	o := &builder.Options{}
	spec := &o.Spec
	spec.Target, spec.CgroupParent, spec.Tags = q.Get("target"), q.Get("cgroupparent"), q["t"]
	spec.NoCache, spec.Pull = boolean(r, "nocache"), boolean(r, "pull")
	spec.Outputs = []buildspec.Output{{Type: buildspec.OutputImage}}
	for _, read := range []func(url.Values, *buildspec.Spec) error{readArgs, readCaches, readPlace, readLimits} {
		if err := read(q, spec); err != nil {
			var own *requestError
			if !errors.As(err, &own) {
				err = &requestError{http.StatusBadRequest, err}
			}
			return nil, err
		}
	}
	return o, nil
}

// checkBuild refuses what the classic builder of mica does not do, and invalid names, before the context is read.
func checkBuild(r *http.Request, q url.Values) error {
	switch {
	case boolean(r, "squash"):
		return badRequest("squash is only supported with experimental mode")
	case q.Get("version") == "2":
		return badRequest("this client is too old to build with BuildKit here: use docker buildx, or set DOCKER_BUILDKIT=0 for the classic builder")
	case q.Get("version") != "" && q.Get("version") != "1":
		return badRequest("invalid version %q", q.Get("version"))
	case len(q["securityopt"]) > 0:
		return badRequest("security options are not supported on linux")
	case q.Get("isolation") != "" && q.Get("isolation") != "default":
		return badRequest("unsupported isolation: %q", q.Get("isolation"))
	case q.Get("outputs") != "" && q.Get("outputs") != "null" && q.Get("outputs") != "[]":
		return badRequest("outputs are those of BuildKit: use docker buildx")
	}
	for _, t := range q["t"] {
		if _, err := image.ParseName(t); err != nil {
			return &requestError{http.StatusBadRequest, err}
		}
	}
	return nil
}

// readJSON reads a parameter that is JSON. Without it, into stays as it is.
func readJSON(q url.Values, name string, into any) error {
	text := q.Get(name)
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return badRequest("error reading %s: %w", name, err)
	}
	return nil
}

// readArgs reads arguments and labels. An argument without a value is one that the client's environment does not have.
func readArgs(q url.Values, spec *buildspec.Spec) error {
	args := map[string]*string{}
	spec.BuildArgs, spec.Labels = map[string]string{}, map[string]string{}
	if err := errors.Join(readJSON(q, "buildargs", &args), readJSON(q, "labels", &spec.Labels)); err != nil {
		return err
	}
	for name, value := range args {
		if value != nil {
			spec.BuildArgs[name] = *value
		}
	}
	if inline, _ := strconv.ParseBool(spec.BuildArgs["BUILDKIT_INLINE_CACHE"]); inline {
		spec.CacheTo = []buildspec.Cache{{Type: buildspec.CacheInline}}
	}
	return nil
}

// readCaches reads images whose layers may be used. They are names, never files.
func readCaches(q url.Values, spec *buildspec.Spec) error {
	var refs []string
	if err := readJSON(q, "cachefrom", &refs); err != nil {
		return err
	}
	for _, ref := range refs {
		named, err := image.ParseName(ref)
		if err != nil {
			return badRequest("error reading cachefrom: %w", err)
		}
		spec.CacheFrom = append(spec.CacheFrom, buildspec.Cache{Type: buildspec.CacheRegistry, Ref: named.String()})
	}
	return nil
}

// readPlace reads the platform, and what steps see of the network.
func readPlace(q url.Values, spec *buildspec.Spec) (err error) {
	if p := q.Get("platform"); p != "" {
		if spec.Platforms, err = buildspec.ParsePlatforms([]string{p}); err != nil {
			return err
		}
	}
	if spec.Network, err = buildspec.ParseNetwork(q.Get("networkmode")); err != nil {
		return err
	}
	spec.Hosts, err = buildspec.ParseHosts(q["extrahosts"])
	return err
}

// readLimits reads what steps may use. 0 is no limit, as in Docker.
func readLimits(q url.Values, spec *buildspec.Spec) (err error) {
	var ulimits []*units.Ulimit
	if err := readJSON(q, "ulimits", &ulimits); err != nil {
		return err
	}
	for _, u := range ulimits {
		if u != nil {
			spec.Ulimits = append(spec.Ulimits, u.String())
		}
	}
	if spec.Ulimits, err = buildspec.ParseUlimits(spec.Ulimits); err != nil {
		return err
	}
	if spec.ShmSize, err = queryNumber(q, "shmsize"); err != nil {
		return err
	}
	l := &spec.Limits
	l.CPUs, l.MemoryNodes = q.Get("cpusetcpus"), q.Get("cpusetmems")
	for name, to := range map[string]**int64{
		"memory": &l.Memory, "memswap": &l.MemorySwap, "cpushares": &l.CPUShares, "cpuperiod": &l.CPUPeriod, "cpuquota": &l.CPUQuota,
	} {
		n, err := queryNumber(q, name)
		if err != nil {
			return err
		}
		if n != 0 {
			*to = &n
		}
	}
	return nil
}
