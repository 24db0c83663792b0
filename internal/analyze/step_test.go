package analyze

import "testing"

func TestInstruction(t *testing.T) {
	t.Parallel()
	for createdBy, want := range map[string]string{
		"RUN /bin/sh -c make   all # buildkit":                    "RUN make all",
		"RUN |2 A=b C=d e /bin/sh -c make # buildkit":             "RUN make",
		"RUN |1 A=b make -j # buildkit":                           "RUN |1 A=b make -j",
		"COPY . /src # buildkit":                                  "COPY . /src",
		"/bin/sh -c #(nop) CMD [\"sh\"]":                          `CMD ["sh"]`,
		"/bin/sh -c apt-get update \\\n  && apt-get install -y x": `RUN apt-get update \ && apt-get install -y x`,
		"": "",
	} {
		if got := Instruction(createdBy); got != want {
			t.Errorf("%q is %q, want %q", createdBy, got, want)
		}
	}
}
