package recorder

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/history"
)

// TestFailure: the error of a client's build keeps its step and its place in the Dockerfile; a detail with a credential is left out.
func TestFailure(t *testing.T) {
	t.Parallel()
	step := digest.FromString("step")
	for name, c := range map[string]struct {
		details bool
		text    string // of the Dockerfile
		code    codes.Code
		places  int
	}{
		"of the command line": {},
		"of a client":         {details: true, text: "FROM scratch\nCOPY a /\n", code: codes.Unknown, places: 1},
		"a URL":               {details: true, text: "FROM scratch\nADD https://u:pw@host/f /\n", code: codes.Unknown},
		"a secret":            {details: true, text: "FROM scratch\nARG API_TOKEN=hunter22\n", code: codes.Unknown},
		"a large Dockerfile":  {details: true, text: strings.Repeat("#\n", maxFailure), code: codes.Unknown},
	} {
		s := newStore(t)
		r := start(t, s, Options{Spec: &buildspec.Spec{Path: "/context", BuildArgs: map[string]string{"API_TOKEN": "hunter22"}}, Details: c.details})
		err := errdefs.WrapVertex(errors.New("login hunter22 failed"), step)
		err = errdefs.WithSource(err, &errdefs.Source{Info: &pb.SourceInfo{Filename: "Dockerfile", Data: []byte(c.text)}})
		if err := r.End("", err); err != nil {
			t.Fatal(err)
		}
		b, err := history.Open(s).Find("")
		if err != nil {
			t.Fatal(err)
		}
		if !c.details {
			if b.Failure != nil {
				t.Errorf("%s: %q", name, b.Failure)
			}
			continue
		}
		var st rpcstatus.Status
		if err := proto.Unmarshal(b.Failure, &st); err != nil {
			t.Fatal(err)
		}
		got := grpcerrors.FromGRPC(status.ErrorProto(&st))
		var at *errdefs.VertexError
		if codes.Code(st.Code) != c.code || st.Message != b.Error || len(errdefs.Sources(got)) != c.places || !errors.As(got, &at) || at.Digest != step.String() {
			t.Errorf("%s: %v, %d places, step %v", name, &st, len(errdefs.Sources(got)), at)
		}
		if strings.Contains(string(b.Failure), "hunter22") || strings.Contains(string(b.Failure), "u:pw") || strings.Contains(string(b.Failure), "test.timeout") {
			t.Errorf("%s: the record has a secret, or the arguments of the process", name)
		}
	}
}

// TestProvenance: the provenance of a build is recorded without credentials, and goes with the build.
func TestProvenance(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := start(t, s, Options{Spec: &buildspec.Spec{Path: "/context", BuildArgs: map[string]string{"API_TOKEN": "hunter22"}}})
	data := base64.StdEncoding.EncodeToString([]byte("login hunter22"))
	doc := `{"n":12345678901234567890,"args":{"build-arg:API_TOKEN":"abc","build-arg:V":"1"},"env":["T=hunter22"],"url":"https://u:pw@host/","data":"` + data + `"}`
	r.Provenance(map[string]json.RawMessage{"": json.RawMessage(doc)}, nil)
	r.Provenance(nil, errors.New("another cannot be made"))
	if err := r.End("", nil); err == nil || err.Error() != "another cannot be made" {
		t.Errorf("%v", err)
	}
	builds := history.Open(s)
	b, err := builds.Find("")
	if err != nil {
		t.Fatal(err)
	}
	all, err := builds.Provenance(b)
	want := `{"args":{"build-arg:V":"1"},"data":"` + base64.StdEncoding.EncodeToString([]byte("login xxxxx")) +
		`","env":["T=xxxxx"],"n":12345678901234567890,"url":"https://xxxxx:xxxxx@host/"}`
	if err != nil || string(all[""]) != want {
		t.Errorf("%s, want %s, %v", all[""], want, err)
	}
	if _, errs := builds.Remove(b.Ref); len(errs) > 0 {
		t.Fatal(errs)
	}
	if all, err := builds.Provenance(b); all != nil || err != nil {
		t.Errorf("%s, %v", all, err)
	}
}

// TestNestedSecrets: the secrets of front ends that others ask for are masked, too, the longest first, and there is a limit.
func TestNestedSecrets(t *testing.T) {
	t.Parallel()
	r := start(t, newStore(t), Options{Spec: &buildspec.Spec{BuildArgs: map[string]string{"A_TOKEN": "hunter"}}})
	r.Asked(map[string]string{"build-arg:B_TOKEN": "hunter22", "build-arg:C": "plain", "D_TOKEN": "no argument"})
	if got := r.redact("hunter hunter22 plain no argument"); got != "xxxxx xxxxx plain no argument" {
		t.Errorf("%q", got)
	}
	for i := range 2 * maxSecrets {
		r.Asked(map[string]string{"build-arg:TOKEN": fmt.Sprintf("secret-%d", i)})
	}
	if n := len(r.secrets.values); n != maxSecrets {
		t.Errorf("%d secrets are kept", n)
	}
	(*Recorder)(nil).Asked(nil)
}

// TestExporters: exporters and what they made are recorded, without credentials.
func TestExporters(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := start(t, s, Options{Exporters: []history.Exporter{{Type: "image", Attrs: map[string]string{"name": "app", "x": "https://u:pw@host/"}}, {Type: "tar"}}})
	made := history.Exported{MediaType: "m", Digest: digest.FromString("manifest"), Size: 3}
	r.Made([]history.Exported{made})
	def := &pb.Definition{Def: [][]byte{[]byte("local://dockerfile")}}
	r.Graph(&pb.Definition{Source: &pb.Source{Infos: []*pb.SourceInfo{{Data: []byte("FROM x"), Definition: def}}}})
	if err := r.End(made.Digest, nil); err != nil {
		t.Fatal(err)
	}
	b, err := history.Open(s).Find("")
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Exporters) != 2 || b.Exporters[0].Attrs["name"] != "app" || b.Exporters[0].Attrs["x"] != "https://xxxxx:xxxxx@host/" || b.Exporters[1].Type != "tar" {
		t.Errorf("%+v", b.Exporters)
	}
	var source pb.Definition
	if err := source.UnmarshalVT(b.Source); err != nil || len(source.Def) != 1 || len(b.Results) != 1 || b.Results[0] != made {
		t.Errorf("%+v, %+v, %v", &source, b.Results, err)
	}
	secret := &pb.Definition{Def: [][]byte{[]byte("https://u:pw@host/")}}
	if got := r.definition(secret); got != nil {
		t.Errorf("%q", got)
	}
}
