package builder

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/util/imageutil"
	"github.com/opencontainers/go-digest"
)

func rule(action spb.PolicyAction, from, to string) *spb.Rule {
	r := &spb.Rule{Action: action, Selector: &spb.Selector{Identifier: from}}
	if to != "" {
		r.Updates = &spb.Update{Identifier: to}
	}
	return r
}

// sourcesOf are the identifiers of a graph's sources; all inputs must be there.
func sourcesOf(t *testing.T, def *pb.Definition) []string {
	t.Helper()
	known := map[string]bool{}
	var list []string
	for _, data := range def.Def {
		var op pb.Op
		if err := op.UnmarshalVT(data); err != nil {
			t.Fatal(err)
		}
		for _, in := range op.Inputs {
			if !known[in.Digest] {
				t.Errorf("input %s is missing", in.Digest)
			}
		}
		known[digest.FromBytes(data).String()] = true
		if src := op.GetSource(); src != nil {
			list = append(list, src.Identifier)
		}
	}
	for d := range def.Metadata {
		if !known[d] {
			t.Errorf("metadata of %s, which is not there", d)
		}
	}
	return list
}

// TestPolicies: sources are allowed, denied and replaced, by rules and by the client.
func TestPolicies(t *testing.T) {
	t.Parallel()
	image := llb.Image("alpine")
	def, err := image.File(llb.Copy(llb.Local("context"), "/", "/")).Run(llb.Shlex("true")).Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := func(from, to string) PolicyClient {
		return func(_ context.Context, op *pb.Op, _ Resolver) (*pb.SourceOp, error) {
			switch {
			case op.GetSource().Identifier != from:
				return nil, nil
			case to == "":
				return nil, errors.New("not " + from)
			}
			return &pb.SourceOp{Identifier: to}, nil
		}
	}
	const alpine, local = "docker-image://docker.io/library/alpine:latest", "local://context"
	for name, c := range map[string]struct {
		p    policies
		want string
	}{
		"none":                {policies{}, alpine + " " + local},
		"allowed":             {policies{static: []*spb.Policy{{Rules: []*spb.Rule{rule(spb.PolicyAction_ALLOW, "*", "")}}}}, alpine + " " + local},
		"denied":              {policies{static: []*spb.Policy{{Rules: []*spb.Rule{rule(spb.PolicyAction_DENY, alpine, "")}}}}, `source "` + alpine + `" denied by policy: source denied by policy`},
		"replaced":            {policies{static: []*spb.Policy{{Rules: []*spb.Rule{rule(spb.PolicyAction_CONVERT, alpine, "docker-image://busybox")}}}}, "docker-image://docker.io/library/busybox:latest " + local},
		"replaced for ever":   {policies{client: client(alpine, alpine)}, "too many policy requests: the source " + alpine + " is replaced again and again"},
		"denied by client":    {policies{client: client(local, "")}, "not " + local},
		"replaced by client":  {policies{client: client(local, "https://host/f")}, alpine + " https://host/f"},
		"replaced and denied": {policies{static: []*spb.Policy{{Rules: []*spb.Rule{rule(spb.PolicyAction_DENY, "https://*", "")}}}, client: client(local, "https://host/f")}, `source "https://host/f" denied by policy: source denied by policy`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := c.p.applyAll(t.Context(), def.ToPB(), nil)
			got := fmt.Sprint(err)
			if err == nil {
				got = strings.Join(sourcesOf(t, out), " ")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestFullIdentifiers: what names the same source in another way does not get past a policy.
func TestFullIdentifiers(t *testing.T) {
	t.Parallel()
	for identifier, want := range map[string]string{
		"docker-image://alpine":               "docker-image://docker.io/library/alpine:latest",
		"git://h/r.git#main:../absolute/path": "git://h/r.git#main:absolute/path",
		"git://h/r.git#main:/a/./b/":          "git://h/r.git#main:a/b",
		"git://h/r.git#main:":                 "git://h/r.git#main",
		"git://h/r.git":                       "git://h/r.git",
		"https://h/f#x:../y":                  "https://h/f#x:../y",
	} {
		if got := fullIdentifier(identifier); got != want {
			t.Errorf("%s: %s, want %s", identifier, got, want)
		}
	}
}

func TestInvalidPolicies(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]*spb.Policy{
		"invalid nil policy":               nil,
		"invalid nil rule in policy":       {Rules: []*spb.Rule{nil}},
		"invalid nil selector in policy":   {Rules: []*spb.Rule{{}}},
		"invalid nil constraint in policy": {Rules: []*spb.Rule{{Selector: &spb.Selector{Constraints: []*spb.AttrConstraint{nil}}}}},
	} {
		if _, err := (policies{}).with([]*spb.Policy{p}); fmt.Sprint(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	missing := &pb.Op{Inputs: []*pb.Input{{Digest: "sha256:none"}}}
	data, err := missing.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	for want, def := range map[string]*pb.Definition{
		"invalid definition: input sha256:none is missing": {Def: [][]byte{data}},
		"invalid definition: ":                             {Def: [][]byte{{0xff}}},
	} {
		if _, err := rewrite(def, func(string, *pb.Op) {}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestMetadata: front ends learn what a file over http is, and what a policy has put in the place of an image.
func TestMetadata(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		_, _ = w.Write([]byte("data"))
	}))
	t.Cleanup(server.Close)
	f := newFrontend(t, nil, nil)
	f.policies = policies{static: []*spb.Policy{{Rules: []*spb.Rule{rule(spb.PolicyAction_CONVERT, "docker-image://docker.io/library/x:1", "local://x")}}}}
	got, err := f.ResolveSourceMetadata(t.Context(), &pb.SourceOp{Identifier: server.URL + "/name"}, sourceresolver.Opt{})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC)
	want := &sourceresolver.ResolveHTTPResponse{Digest: digest.FromString("data"), Filename: "name", LastModified: &at}
	if diff := cmp.Diff(want, got.HTTP); diff != "" || got.Image != nil || got.Git != nil {
		t.Errorf("%+v: %s", got, diff)
	}
	if got, err = f.ResolveSourceMetadata(t.Context(), &pb.SourceOp{Identifier: "docker-image://x:1"}, sourceresolver.Opt{}); err != nil || got.Op.Identifier != "local://x" {
		t.Errorf("%+v, %v", got, err)
	}
	var other *imageutil.ResolveToNonImageError
	if _, _, _, err := f.ResolveImageConfig(t.Context(), "x:1", sourceresolver.Opt{}); !errors.As(err, &other) || other.Updated != "local://x" {
		t.Errorf("%v", err)
	}
	opt := sourceresolver.Opt{HTTPOpt: &sourceresolver.ResolveHTTPOpt{ChecksumReq: &sourceresolver.ResolveHTTPChecksumRequest{
		Algo: sourceresolver.ResolveHTTPChecksumAlgoSHA512, Suffix: []byte("!"),
	}}}
	sum := digest.SHA512.FromString("data!").String()
	if got, err := f.ResolveSourceMetadata(t.Context(), &pb.SourceOp{Identifier: server.URL}, opt); err != nil || got.HTTP.ChecksumResponse.Digest != sum {
		t.Errorf("%+v, %v", got, err)
	}
	opt.HTTPOpt.ChecksumReq.Algo = 9
	if _, err := f.ResolveSourceMetadata(t.Context(), &pb.SourceOp{Identifier: server.URL}, opt); err == nil || !strings.Contains(err.Error(), "unsupported checksum algorithm") {
		t.Errorf("%v", err)
	}
}
