//go:build e2e

package why

import (
	"fmt"
	"os"
	"strings"
)

// change is one change of a project, and the causes that it is. A simple one can be made together with any other of another topic.
type change struct {
	name  string
	topic string
	make  func(p *project)
	want  []string
	setup func(p *project) // of both builds; nil for nothing
}

func changes() (list []change) {
	add := func(topic, name string, want []string, make func(p *project)) {
		list = append(list, change{topic + ": " + name, topic, make, want, nil})
	}
	for _, f := range []string{"go.mod", "go.sum", "src/a.go", "src/b.go", "src/sub/c.go", "src/sub/d.go", "extra/1.txt", "extra/2.txt", "scripts/lib.sh", "archive.tar", "entry.sh", "docs/a.txt", "src/odd name", "src/new\nline", "src/ümläut", "src/-dash"} {
		add(f, "content", []string{"file " + f + " content"}, func(p *project) { p.files[f] += p.unique() })
	}
	for _, f := range []string{"go.mod", "go.sum", "src/a.go", "src/sub/c.go", "src/b.go", "src/sub/d.go", "extra/2.txt", "scripts/build.sh", "scripts/lib.sh", "archive.tar", "docs/a.txt"} {
		for _, mode := range []os.FileMode{0o600, 0o755, 0o444, 0o640} {
			add(f, mode.String(), []string{"file " + f + " mode"}, func(p *project) { p.modes[f] = mode })
		}
	}
	for _, d := range []string{"src", "scripts"} { // no step reads the mode of the directory whose contents it copies or mounts
		for _, mode := range []os.FileMode{0o700, 0o711} {
			add(d, mode.String(), nil, func(p *project) { p.modes[d] = mode })
		}
	}
	for _, f := range []string{"src/new.go", "src/sub/new.go", "extra/new.txt", "scripts/new.sh"} {
		add(f, "added", []string{"file " + f + " added"}, func(p *project) { p.files[f] = p.unique() })
	}
	for _, f := range []string{"src/a.go", "src/sub/c.go", "extra/2.txt", "scripts/lib.sh"} {
		add(f, "removed", []string{"file " + f + " removed"}, func(p *project) { delete(p.files, f) })
	}
	add("src/link", "target", []string{"file src/link link"}, func(p *project) { p.links["src/link"] = p.unique() })
	add("src/link", "added", []string{"file src/link2 added"}, func(p *project) { p.links["src/link2"] = p.unique() })
	for _, f := range []string{"x", "z"} {
		add("data/"+f, "content", []string{"file " + f + " content"}, func(p *project) { p.data[f] += p.unique() })
	}
	add("data/y", "content", []string{"file y content"}, func(p *project) { p.data["y"] += p.unique() })
	add("data/n", "added", []string{"file n added"}, func(p *project) { p.data["n"] = p.unique() })
	add("unused", "content", nil, func(p *project) { p.files["unused"] += p.unique() })
	add("ignored", "content", nil, func(p *project) { p.files["src/x.log"] += p.unique() })
	for _, f := range []string{"src/left.go", "src/sub/left.go", "extra/left.txt", "scripts/left.sh"} {
		add("ignore", f, []string{"ignore " + f + " removed"}, func(p *project) { p.files[".dockerignore"] += f + "\n" })
	}
	add("ignore", "nothing", []string{"ignore src/x.log added"}, func(p *project) { p.files[".dockerignore"] = "#" + p.unique() })
	add("arg", "VERSION", []string{"argument VERSION"}, func(p *project) { p.flags = append(p.flags, "--build-arg", "VERSION="+p.unique()) })
	add("arg", "VERSION by default", []string{"argument VERSION"}, func(p *project) { p.replace("VERSION=1.0", "VERSION="+p.unique()) })
	add("arg", "of the stage before", []string{"argument OTHER"}, func(p *project) { p.replace("FROM deps", "ARG OTHER="+p.unique()+"\nFROM deps") })
	add("env", "MODE", []string{"environment MODE"}, func(p *project) { p.replace("MODE=dev", "MODE="+p.unique()) })
	add("env", "LEVEL", []string{"environment LEVEL"}, func(p *project) { p.replace("LEVEL=low", "LEVEL="+p.unique()) })
	add("env", "new", []string{"environment NEW"}, func(p *project) { p.replace("LEVEL=low", "LEVEL=low NEW="+p.unique()) })
	add("env", "removed", []string{"environment LEVEL"}, func(p *project) { p.replace(" LEVEL=low", "") })
	add("user", "other", []string{"option user"}, func(p *project) { p.replace("USER 1000", fmt.Sprintf("USER %d", 2000+p.number)) })
	add("shell", "other", []string{"option shell"}, func(p *project) {
		p.replace("USER 1000", "USER 1000\nSHELL [\"/bin/sh\", \"-c\", \"-e\"]")
	})
	add("workdir", "other", []string{"command WORKDIR /w/{}", "command"}, func(p *project) {
		p.replace("WORKDIR /w", "WORKDIR /w/"+p.unique())
		p.dockerfile = strings.ReplaceAll(p.dockerfile, "/w/deps.txt /w/x", "/w/"+p.unique()+"/deps.txt /w/"+p.unique()+"/x")
	})
	edits := map[string][2]string{
		"RUN echo deps":  {"RUN echo deps $VERSION $MODE > deps.txt", "RUN echo deps $VERSION $MODE {} > deps.txt"},
		"RUN build":      {"sh /s/build.sh", "sh /s/build.sh {}"},
		"RUN data":       {"cat /d/x > x", "cat /d/x > x; echo {}"},
		"RUN id":         {"RUN id -u", "RUN id -u; : {}"},
		"COPY src":       {"COPY src/ src/", "COPY src/ src/{}/"},
		"COPY entry":     {"COPY --chmod=755 entry.sh /", "COPY --chmod=755 entry.sh /{}"},
		"ADD":            {"ADD archive.tar /a/", "ADD archive.tar /a/{}/"},
		"COPY from data": {"COPY --from=data y /y", "COPY --from=data y /{}"},
	}
	for name, e := range edits {
		add(name, "edited", []string{"command"}, func(p *project) { p.replace(e[0], strings.ReplaceAll(e[1], "{}", p.unique())) })
	}
	add("COPY heredoc", "edited", []string{"command"}, func(p *project) { p.replace("\ntext\n", "\n"+p.unique()+"\n") })
	add("RUN heredoc", "edited", []string{"command"}, func(p *project) { p.replace("\necho one\n", "\necho "+p.unique()+"\n") })
	for _, at := range []string{"COPY go.mod go.sum", "COPY src/", "ADD archive", "USER 1000", "COPY --chmod"} {
		add("insert before "+at, "RUN", []string{"inserted RUN echo {} > /new"}, func(p *project) { p.replace(at, "RUN echo "+p.unique()+" > /new\n"+at) })
		add("insert before "+at, "COPY", []string{"inserted COPY unused /{}"}, func(p *project) { p.replace(at, "COPY unused /"+p.unique()+"\n"+at) })
	}
	add("base", "layer", []string{"base base:latest 1 layer"}, func(p *project) { p.base = p.derived("RUN echo " + p.unique() + " > /new") })
	add("base", "environment", []string{"base base:latest"}, func(p *project) { p.base = p.derived("ENV NEW=" + p.unique()) })
	add("base", "other", []string{"argument BASE"}, func(p *project) {
		p.m.Run("tag", p.derived("RUN echo "+p.unique()+" > /new"), "other")
		p.flags = append(p.flags, "--build-arg", "BASE=other")
	})
	add("base", "label", nil, func(p *project) { p.base = p.derived("LABEL x=" + p.unique()) })
	add("base", "user", []string{"base base:latest"}, func(p *project) { p.base = p.derived(fmt.Sprintf("USER %d", 3000+p.number)) })
	add("base", "by default", []string{"argument BASE"}, func(p *project) {
		p.m.Run("tag", p.derived("RUN echo "+p.unique()+" > /new"), "third")
		p.replace("BASE=base", "BASE=third")
	})
	add("base", "named", []string{"base third:latest"}, func(p *project) {
		p.m.Run("tag", p.derived("RUN echo "+p.unique()+" > /new"), "third")
		p.replace("FROM base\n", "FROM third\n")
	})
	for name, text := range map[string][2]string{
		"label": {"color=red", "color={}"}, "command": {`CMD ["sh"]`, `CMD ["{}"]`}, "comment": {"FROM deps", "# {}\nFROM deps"},
		"port": {"LABEL", "EXPOSE 80\nLABEL"}, "cache": {"id=c1", "id={}"}, "stage": {"FROM base\n", "FROM base AS {}\n"},
	} {
		add("nothing", name, nil, func(p *project) { p.replace(text[0], strings.ReplaceAll(text[1], "{}", p.unique())) })
	}
	for name, flag := range map[string][2]string{
		"network": {"--network=none", "option network"}, "ulimit": {"--ulimit=nofile={}:4000", "option ulimit"}, "hosts": {"--add-host=h{}:10.0.0.1", "option extra hosts"},
		"epoch": {"--build-arg=SOURCE_DATE_EPOCH={}", "argument SOURCE_DATE_EPOCH"},
	} {
		add("flag", name, []string{flag[1]}, func(p *project) {
			p.flags = append(p.flags, strings.ReplaceAll(flag[0], "{}", fmt.Sprint(1000+p.number)))
		})
	}
	add("arg", "in a COPY", []string{"argument N"}, func(p *project) { p.flags = append(p.flags, "--build-arg", "N=2") })
	add("env", "in a COPY", []string{"environment DIR"}, func(p *project) { p.replace("DIR=one", "DIR="+p.unique()) })
	add("exclude", "other pattern", []string{"command"}, func(p *project) { p.replace("--exclude=*.md", "--exclude="+p.unique()) })
	add("exclude", "excluded file", nil, func(p *project) { p.files["docs/b.md"] += p.unique() })
	deleted := map[string]string{
		"COPY --link extra/*.txt /extra/\n": "COPY --link extra/*.txt /extra/", "ADD archive.tar /a/\n": "ADD archive.tar /a/",
		"COPY <<EOT /heredoc\ntext\nEOT\n": "COPY <<EOT /heredoc", "COPY src/ src/\n": "COPY src/ src/", "COPY go.mod go.sum ./\n": "COPY go.mod go.sum ./",
		"COPY --from=data y /y\n": "COPY --from=data y /y",
	}
	for text, name := range deleted {
		add("deleted", name, []string{"deleted " + name}, func(p *project) {
			p.replace(text, "")
		})
	}
	add("deleted", "the last", nil, func(p *project) { p.replace("COPY --chmod=755 entry.sh /\n", "") })
	add("no-cache", "all", []string{"no-cache"}, func(p *project) { p.flags = append(p.flags, "--no-cache") })
	add("no-cache", "stage", []string{"no-cache"}, func(p *project) { p.flags = append(p.flags, "--no-cache-filter", "deps") })
	list = append(list, moreChanges()...)
	for i, c := range list {
		if (c.topic == "ignore" || c.topic == "src/b.go") && c.setup == nil { // several of these leave the same files, and the cache has what was built of them
			list[i].setup = func(p *project) {
				p.files["src/b.go"] += p.key
				p.files["extra/1.txt"] += p.key
				p.files["scripts/lib.sh"] += p.key
			}
		}
	}
	return list
}

// combined are the changes that are made in pairs: neither of two hides the other.
var combined = []string{
	"go.sum: content", "src/sub/c.go: content", "extra/2.txt: content", "scripts/lib.sh: content", "entry.sh: content", "data/y: content",
	"src/b.go: -rwxr-xr-x", "src/new.go: added", "src/link: target", "ignore: src/left.go", "arg: VERSION", "env: MODE", "user: other",
	"RUN id: edited", "RUN heredoc: edited", "insert before ADD archive: RUN", "base: layer",
}
