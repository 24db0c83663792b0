//go:build e2e

package docker

import (
	"archive/tar"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/micabuild/mica/test/rig"
)

// changeLists are those of one `import`, an element for each -c. Docker's answer is the right one.
var changeLists = [][]string{
	{`ENV A=b`}, {`ENV A=b C=d`}, {`ENV A b c`}, {`ENV A   b  c `}, {`ENV A "b c"`}, {`ENV A="b c" D='e f'`}, {`ENV A=b\ c`},
	{`ENV A=b`, `ENV A=c`}, {`ENV A=1 B=2`, `ENV C=3`, `ENV A=4`}, {`ENV A=b`, `ENV B=$A/c C=${A}d`}, {`ENV A=b B=$A`},
	{`ENV A='$B' C="\$D" E=\$F`}, {`ENV A=$HOME/x`}, {`ENV A=${B:-c} D=${E:+f}`, `ENV D=${A:+g}`}, {`ENV A=${B:?no}`}, {`ENV A=${B`},
	{`ENV PATH=/x:$PATH`}, {`ENV A=b PATH=/x C=d`}, {`ENV A=1`, `ENV PATH=`, `ENV B=2`}, {`ENV N=PATH`, `ENV A=1 $N=/y`}, {`ENV A=b`, `ENV B=$PATH.`},
	{`ENV path=/x`}, {`ENV A=`}, {`ENV A`}, {`ENV`}, {`ENV =b`}, {`ENV A=b c`}, {`ENV "A B"=c`}, {`env a=b`}, {"ENV A=b \\\n  C=d"},
	{`WORKDIR /a`}, {`WORKDIR a`}, {`WORKDIR /a`, `WORKDIR b`, `WORKDIR ../c`}, {`ENV D=/d`, `WORKDIR $D/e`}, {`WORKDIR "/a b"`}, {`WORKDIR /a b`},
	{`WORKDIR /a/../../b/`}, {`WORKDIR .`}, {`WORKDIR`}, {`WORKDIR ""`}, {`WORKDIR $NONE`}, {`WORKDIR C:\x`},
	{`LABEL a=b`}, {`LABEL a=b c="d e" "f g"=h`}, {`LABEL a b c`}, {`LABEL a="b\"c"`}, {`ENV V=1`, `LABEL v=$V w='$V' x="${V}2"`}, {`LABEL a=1`, `LABEL a=2`},
	{`LABEL a=`}, {`LABEL =a`}, {`LABEL a`}, {`LABEL`}, {"LABEL a=b\\\nc"}, {`LABEL a.b/c-d=e`},
	{`EXPOSE 80`}, {`EXPOSE 80/tcp 53/UDP 9/sctp`}, {`EXPOSE 8000-8003`}, {`EXPOSE 7000-7001/udp`}, {`ENV P=80`, `EXPOSE $P ${P}81/udp`},
	{`EXPOSE 80:8080`}, {`EXPOSE 127.0.0.1:80:8080`}, {`EXPOSE 80/nonsense`}, {`EXPOSE 70000`}, {`EXPOSE -1`}, {`EXPOSE 90-80`}, {`EXPOSE x`}, {`EXPOSE`}, {`EXPOSE $NONE`},
	{`EXPOSE 80`, `EXPOSE 80/tcp`, `EXPOSE 443`}, {`EXPOSE 0`}, {`EXPOSE 80/`}, {`EXPOSE "80 81"`}, {`ENV P="80 81"`, `EXPOSE $P`},
	{`VOLUME /a`}, {`VOLUME /a /b`}, {`VOLUME ["/a", "/b c"]`}, {`VOLUME ["/a",]`}, {`VOLUME a`}, {`ENV D=/d`, `VOLUME $D/v`}, {`ENV D=/d`, `VOLUME ["$D/v"]`},
	{`VOLUME`}, {`VOLUME []`}, {`VOLUME [""]`}, {`VOLUME ""`}, {`VOLUME "/a b"`}, {`VOLUME $NONE`},
	{`USER me`}, {`USER 1:2`}, {`ENV U=me`, `USER $U:$U`}, {`USER "me"`}, {`USER me you`}, {`USER`}, {`USER $NONE`},
	{`CMD echo hi`}, {`CMD ["echo", "hi"]`}, {`CMD ["echo", hi]`}, {`CMD echo "$HOME" 'x'`}, {`ENV A=b`, `CMD ["echo", "$A"]`}, {`ENV A=b`, `CMD echo $A`},
	{`CMD []`}, {`CMD`}, {`CMD [ "a" , "b\tc\u00e9" ]`}, {`CMD ['a']`}, {`CMD a`, `CMD b`}, {"CMD a \\\n  b"}, {`CMD ["a"] b`}, {`CMD   a   b  `},
	{`ENTRYPOINT top -b`}, {`ENTRYPOINT ["top", "-b"]`}, {`CMD ["x"]`, `ENTRYPOINT ["y"]`}, {`ENTRYPOINT ["y"]`, `CMD ["x"]`}, {`ENTRYPOINT []`}, {`ENTRYPOINT`}, {`ENTRYPOINT ["y"]`, `CMD x`},
	{`HEALTHCHECK NONE`}, {`HEALTHCHECK CMD true`}, {`HEALTHCHECK CMD ["true", "x"]`}, {`HEALTHCHECK --interval=5s --timeout=1m --start-period=2s --retries=3 CMD true`},
	{`HEALTHCHECK --interval=1 CMD true`}, {`HEALTHCHECK --retries=-1 CMD true`}, {`HEALTHCHECK --retries=0 CMD true`}, {`HEALTHCHECK --interval=1ns CMD true`}, {`HEALTHCHECK --what=1 CMD true`},
	{`HEALTHCHECK true`}, {`HEALTHCHECK NONE x`}, {`HEALTHCHECK CMD`}, {`HEALTHCHECK`}, {`HEALTHCHECK CMD true`, `HEALTHCHECK NONE`}, {`HEALTHCHECK --interval=0s CMD true`},
	{`ONBUILD RUN make`}, {`ONBUILD ENV A=$B`}, {`onbuild copy a   b`}, {`ONBUILD ONBUILD RUN x`}, {`ONBUILD FROM x`}, {`ONBUILD MAINTAINER x`}, {`ONBUILD nonsense`}, {`ONBUILD`},
	{`ONBUILD RUN a`, `ONBUILD RUN b`}, {`ONBUILD COPY --from=x a b`}, {"ONBUILD RUN a \\\n  b"},
	{`STOPSIGNAL SIGTERM`}, {`STOPSIGNAL TERM`}, {`STOPSIGNAL 9`}, {`STOPSIGNAL SIGNONE`}, {`STOPSIGNAL 0`}, {`STOPSIGNAL`}, {`STOPSIGNAL 9 9`}, {`ENV S=SIGHUP`, `STOPSIGNAL $S`},
	{`RUN true`}, {`COPY a b`}, {`ADD a b`}, {`FROM scratch`}, {`ARG A=b`}, {`SHELL ["/bin/bash", "-c"]`}, {`MAINTAINER me`}, {`NONSENSE x`}, {`# a comment`}, {``}, {` `}, {`ENV A=b`, ``}, {`ENV A=b`, `RUN true`}, {`run true`},
	{"# escape=`", "ENV A=b`\n C=d"}, {"# escape=`\nENV A=`$B"}, {`ENV A=b # not a comment`}, {"ENV A=b\n# a comment\nENV C=d"}, {`ENV A=b \`, `C=d`}, {`ENV A=b \`}, {"ENV A=b\nUSER me"},
	{`ENV A=b`, `USER $A`, `LABEL x=$A`, `EXPOSE 8$NONE`, `VOLUME /$A`, `WORKDIR $A`, `CMD $A`, `ENTRYPOINT ["$A"]`, `ONBUILD RUN $A`, `HEALTHCHECK CMD $A`},
	{"# syntax=docker/dockerfile:1\nENV A=b"}, {"\ufeffENV A=b"}, {`ENV A=b;C=d`}, {`ENV A==b`}, {`CMD <<E`}, {`LABEL a=<<E`}, {"\tENV A=b"}, {`ENV Ä=ö`}, {`CMD "unclosed`}, {`ENV A="unclosed`}, {`LABEL a='unclosed`},
}

// newer is mica's stderr, "" for none, where Docker 29 and the Dockerfile compiler of today answer in another way than Docker 20.10.
var newer = map[string]string{
	`ENV A=${B`:                          "failed to process \"${B\": unsupported modifier (\ufffd) in substitution",
	`EXPOSE 70000`:                       "invalid containerPort: 70000",
	`EXPOSE -1`:                          "invalid containerPort: -1",
	`EXPOSE 90-80`:                       "invalid containerPort: 90-80",
	`EXPOSE x`:                           "invalid containerPort: x",
	`CMD ["a"] b`:                        "",
	`HEALTHCHECK --retries=-1 CMD true`:  "--retries cannot be negative (-1)",
	`HEALTHCHECK --retries=0 CMD true`:   "",
	`HEALTHCHECK --interval=0s CMD true`: "",
	`HEALTHCHECK --what=1 CMD true`:      "unknown flag: --what",
	`STOPSIGNAL SIGTERM`:                 "", // allowed since Docker 23
	`STOPSIGNAL TERM`:                    "",
	`STOPSIGNAL 9`:                       "",
	`ENV S=SIGHUP | STOPSIGNAL $S`:       "",
	`STOPSIGNAL SIGNONE`:                 "invalid signal: SIGNONE",
	`STOPSIGNAL 0`:                       "invalid signal: 0",
	`STOPSIGNAL`:                         "STOPSIGNAL requires exactly one argument",
	`STOPSIGNAL 9 9`:                     "invalid signal: 9 9",
	`WORKDIR /a/../../b/`:                "", // Docker 29 shortens it
}

// compiled is mica's stderr, "" for none, where the Dockerfile compiler answers in another way than the parser of docker import.
var compiled = map[string]string{
	`EXPOSE 80/nonsense`: `invalid port: "80/nonsense": invalid proto: nonsense`,
	`CMD`:                "",
	`ENTRYPOINT`:         "",
	`WORKDIR ""`:         "cannot normalize nothing: WORKDIR needs a path",
	`WORKDIR $NONE`:      "cannot normalize nothing: WORKDIR needs a path",
}

// TestChanges imports with every list, in Docker and in mica.
func TestChanges(t *testing.T) {
	p := newPair(t)
	file := emptyTar(t)
	for _, list := range changeLists {
		args := []string{"import"}
		for _, change := range list {
			args = append(args, "-c", change)
		}
		args = append(args, file, "changed")
		name := strings.Join(list, " | ")
		word, _, _ := strings.Cut(list[len(list)-1], " ")
		got := p.mica.Try(nil, args...)
		words, ok := compiled[name]
		if !ok && current == "" {
			words, ok = newer[name]
		}
		if ok {
			if text := strings.TrimPrefix(strings.TrimSpace(got.Stderr), "Error: "); text != words || (got.Code == 0) != (words == "") {
				t.Errorf("%q: exit code %d: %q, want %q", name, got.Code, text, words)
			}
			continue
		}
		want := engine.Try(t, args...)
		if want.Code != got.Code {
			t.Errorf("%q: exit code %d, want %d: %s%s", name, got.Code, want.Code, got.Stderr, want.Stderr)
			continue
		}
		w := ownWords(want.Stderr)
		if current == "" { // which wrote instructions in lower case
			w = strings.Replace(w, strings.ToLower(word)+" is not", word+" is not", 1)
		}
		if w != strings.TrimSpace(got.Stderr) {
			t.Errorf("%q: %swant %s", name, got.Stderr, w)
		}
		if want.Code != 0 {
			continue
		}
		if w, g := p.changed(engine.Run(t, "inspect", "changed")), p.changed(p.mica.Run("inspect", "changed")); !reflect.DeepEqual(w, g) {
			t.Errorf("%q:\n     %v\nwant %v", name, g, w)
		}
	}
}

// changed is the config of what inspect shows.
func (p *pair) changed(inspected string) any {
	p.t.Helper()
	var images []struct{ Config any }
	p.parse(inspected, &images)
	return withoutEmpty(images[0].Config)
}

// emptyTar is an archive with nothing in it.
func emptyTar(t *testing.T) string {
	t.Helper()
	path := filepath.Join(rig.TempDir(t), "empty.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := tar.NewWriter(f).Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
