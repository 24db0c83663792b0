//go:build e2e

package why

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// moreChanges are changes of what is given to steps beside files and arguments, of the Dockerfile's form, and of the files' kinds.
func moreChanges() (list []change) {
	add := func(topic, name string, want []string, make func(p *project)) {
		list = append(list, change{topic + ": " + name, topic, make, want, nil})
	}
	with := func(topic, name string, want []string, setup, make func(p *project)) {
		list = append(list, change{topic + ": " + name, topic, make, want, setup})
	}
	edit := func(topic, name, old, text string, want ...string) {
		add(topic, name, want, func(p *project) { p.replace(old, strings.ReplaceAll(text, "{}", p.unique())) })
	}
	mounts(add, with, edit)
	options(add, with, edit)
	forms(edit)
	add("form", "name of a stage", nil, func(p *project) {
		p.replace("FROM deps AS build", "FROM deps AS other")
		p.replace("--from=build", "--from=other")
	})
	kinds(add)
	downloads(with)
	bases(with)
	caches(add, with)
	return list
}

type (
	adder  func(topic, name string, want []string, make func(p *project))
	wither func(topic, name string, want []string, setup, make func(p *project))
	editor func(topic, name, old, text string, want ...string)
)

const command = "command"

func mounts(add adder, with wither, edit editor) {
	secret := func(value string) func(p *project) {
		return func(p *project) {
			file := filepath.Join(p.lane.dir, "secret")
			must(p.t, os.WriteFile(file, []byte(value+p.unique()), 0o600))
			p.flags = append(p.flags, "--secret", "id=s1,src="+file)
		}
	}
	add("secret", "given", nil, secret("a"))
	with("secret", "another value", nil, secret("a"), secret("b"))
	add("secret", "another that no step asks for", nil, func(p *project) {
		p.flags = append(p.flags, "--secret", "id=other,env=HOME")
	})
	edit("secret", "id", "id=s1,target=/secret", "id={},target=/secret", command)
	edit("secret", "target", "target=/secret", "target=/{}", command)
	edit("secret", "mode", "id=s1,", "id=s1,mode=0440,", command)
	edit("secret", "in the environment", "id=s1,target=/secret", "id=s1,env=SECRET", command)
	edit("secret", "mount removed", "--mount=type=secret,id=s1,target=/secret ", "", command)
	edit("ssh", "id", "--mount=type=ssh ", "--mount=type=ssh,id={} ", command)
	edit("ssh", "mount removed", "--mount=type=ssh ", "", command)
	edit("ssh", "target", "--mount=type=ssh ", "--mount=type=ssh,target=/{} ", command)
	edit("cache mount", "target", "target=/cache", "target=/{}", command)
	edit("cache mount", "sharing", "id=c1,", "id=c1,sharing=locked,")
	edit("cache mount", "removed", "--mount=type=cache,id=c1,target=/cache ", "", command)
	edit("cache mount", "read-only", "id=c1,", "id=c1,ro,", command)
	edit("tmpfs", "target", "type=tmpfs,target=/t ", "type=tmpfs,target=/{} ", command)
	edit("tmpfs", "size", "type=tmpfs,target=/t ", "type=tmpfs,target=/t,size=1000000 ", command)
	edit("bind mount", "target", "source=scripts,target=/s sh /s/", "source=scripts,target=/{} sh /{}/", command)
	edit("bind mount", "writable", "source=scripts,target=/s ", "source=scripts,target=/s,rw ", command)
	edit("bind mount", "other source", "source=scripts,target=/s sh /s/", "target=/s sh /s/scripts/", command)
	edit("bind mount", "of a stage", "--mount=type=cache,id=c1", "--mount=type=bind,from=deps,target=/b --mount=type=cache,id=c1", command)
	edit("network", "of the instruction", "RUN id -u", "RUN --network=none id -u", command)
}

func options(add adder, with wither, edit editor) {
	flag := func(topic, name, flag string, want ...string) {
		add(topic, name, want, func(p *project) {
			p.flags = append(p.flags, strings.ReplaceAll(flag, "{}", fmt.Sprint(1000+p.number)))
		})
	}
	flag("flag", "shm size", "--shm-size={}m", "option size of /dev/shm")
	flag("flag", "memory", "--memory={}m")
	flag("flag", "label", "--label=a={}")
	flag("flag", "annotation", "--annotation=a={}")
	flag("flag", "tag", "--tag=t{}")
	flag("flag", "undeclared argument", "--build-arg=UNDECLARED={}")
	flag("flag", "proxy", "--build-arg=HTTP_PROXY=http://127.0.0.1:{}")
	flag("flag", "argument with its default", "--build-arg=VERSION=1.0")
	flag("flag", "unused context", "--build-context=unused=.")
	epoch := func(n int) func(p *project) {
		return func(p *project) {
			p.flags = append(p.flags, fmt.Sprintf("--build-arg=SOURCE_DATE_EPOCH=%d", n+p.number))
		}
	}
	with("epoch", "another", []string{"argument SOURCE_DATE_EPOCH"}, epoch(1000), epoch(2000))
	for _, s := range []string{"VERSION", "N"} {
		with("arg", s+" set to nothing", []string{"argument " + s}, func(p *project) { p.replace("COPY extra/${N}.txt /n\n", "") }, func(p *project) {
			p.flags = append(p.flags, "--build-arg", s+"=")
		})
	}
	edit("arg", "of another name", "ARG VERSION=1.0", "ARG VERSION=1.0 OTHER={}", "argument OTHER")
	edit("arg", "of the last stage", "FROM base\n", "FROM base\nARG LAST={}\n")
	edit("env", "in another order", "MODE=dev LEVEL=low", "LEVEL=low MODE=dev", "option order of the environment")
	edit("env", "twice", "LEVEL=low", "LEVEL=low LEVEL=low")
	edit("env", "of the last stage", "FROM base\n", "FROM base\nENV LAST={}\n")
	edit("user", "by name", "USER 1000", "USER root", "option user")
	edit("user", "removed", "USER 1000\n", "", "option user")
}

func forms(edit editor) {
	edit("form", "lower case", "RUN id -u", "run id -u")
	edit("form", "two spaces", "RUN id -u", "RUN  id -u")
	edit("form", "exec form", "RUN id -u", `RUN ["id", "-u"]`, command)
	edit("form", "continued line", "COPY go.mod go.sum ./", "COPY go.mod \\\n go.sum ./")
	edit("form", "blank lines", "USER 1000", "\n\nUSER 1000")
	edit("form", "healthcheck", "LABEL", "HEALTHCHECK CMD true {}\nLABEL")
	edit("form", "volume", "LABEL", "VOLUME /{}\nLABEL")
	edit("form", "stop signal", "LABEL", "STOPSIGNAL 9\nLABEL")
	edit("form", "entry point", "LABEL", "ENTRYPOINT [\"{}\"]\nLABEL")
	edit("form", "maintainer", "LABEL", "MAINTAINER {}\nLABEL")
	edit("form", "onbuild", "LABEL", "ONBUILD RUN {}\nLABEL")
	edit("form", "unused stage", "FROM base\n", "FROM base AS unused\nRUN false\nFROM base\n")
	edit("COPY go", "order of sources", "COPY go.mod go.sum ./", "COPY go.sum go.mod ./", command)
	edit("COPY go", "destination", "COPY go.mod go.sum ./", "COPY go.mod go.sum ./ ")
	edit("COPY src", "owner", "COPY src/ src/", "COPY --chown=1 src/ src/", command)
	edit("COPY src", "mode", "COPY src/ src/", "COPY --chmod=700 src/ src/", command)
	edit("COPY src", "link", "COPY src/ src/", "COPY --link src/ src/", command)
	edit("COPY extra", "no link", "COPY --link extra/*.txt", "COPY extra/*.txt", command)
	edit("COPY extra", "other pattern", "extra/*.txt", "extra/?.txt", command)
	edit("COPY entry", "mode", "--chmod=755 entry.sh", "--chmod=700 entry.sh", command)
	edit("COPY entry", "parents", "COPY --chmod=755 entry.sh", "COPY --parents --chmod=755 entry.sh", command)
	edit("ADD", "unpacked", "ADD archive.tar", "ADD --unpack=false archive.tar", command)
	edit("COPY from", "base", "COPY --from=base etc/passwd /passwd", "COPY --from=base etc/group /passwd", command)
	edit("COPY heredoc", "name", "<<EOT /heredoc", "<<EOT /heredoc{}", command)
}

func kinds(add adder) {
	file := func(name string, want []string, make func(p *project)) { add("kind", name, want, make) }
	file("file to link", []string{"file src/b.go type"}, func(p *project) { delete(p.files, "src/b.go"); p.links["src/b.go"] = "a.go" })
	file("link to file", []string{"file src/link type"}, func(p *project) { delete(p.links, "src/link"); p.files["src/link"] = "x" })
	file("file to directory", []string{"file src/b.go type"}, func(p *project) { delete(p.files, "src/b.go"); p.dirs = append(p.dirs, "src/b.go") })
	file("new directory", []string{"file src/dir added"}, func(p *project) { p.dirs = append(p.dirs, "src/dir") })
	file("renamed", []string{"file src/b.go removed", "file src/c.go added"}, func(p *project) { p.files["src/c.go"] = p.files["src/b.go"]; delete(p.files, "src/b.go") })
	file("emptied", []string{"file src/b.go content"}, func(p *project) { p.files["src/b.go"] = "" })
	file("swapped", []string{"file src/a.go content", "file src/b.go content"}, func(p *project) {
		p.files["src/a.go"], p.files["src/b.go"] = p.files["src/b.go"], p.files["src/a.go"]
	})
	file("content and mode", []string{"file src/b.go content", "file src/b.go mode"}, func(p *project) { p.files["src/b.go"] += p.unique(); p.modes["src/b.go"] = 0o600 })
	file("set-user-id", []string{"file src/b.go mode"}, func(p *project) { p.modes["src/b.go"] = os.ModeSetuid | 0o755 })
	file("attribute", nil, func(p *project) { p.xattrs["src/b.go"] = p.unique() })
	file("mode of a directory", []string{"file src/sub mode"}, func(p *project) { p.modes["src/sub"] = 0o700 })
	file("dangling link", []string{"file src/link link"}, func(p *project) { p.links["src/link"] = "nothing" })
	ignore := func(name, text string, want ...string) {
		add("ignore", name, want, func(p *project) { p.files[".dockerignore"] = text })
	}
	ignore("comment", "# a comment\n**/*.log\n")
	ignore("another pattern of the same", "*/*.log\n")
	ignore("exception", "**/*.log\n!src/x.log\n", "ignore src/x.log added")
	ignore("directory", "**/*.log\nsrc/sub\n", "ignore src/sub removed", "ignore src/sub/c.go removed", "ignore src/sub/d.go removed", "ignore src/sub/left.go removed")
	add("ignore", "of the Dockerfile", []string{"ignore src/x.log added"}, func(p *project) { p.files["Dockerfile.dockerignore"] = "unused\n" })
}

func downloads(with wither) {
	file := func(p *project) {
		p.site.file("one")
		p.replace("LABEL", "ADD "+p.site.url+"/file /file\nLABEL")
	}
	with("http", "nothing", nil, file, func(*project) {})
	with("http", "content", []string{"remote {site}/file"}, file, func(p *project) { p.prepare = func() { p.site.file("two") } })
	with("http", "mode", []string{command}, file, func(p *project) { p.replace("ADD http", "ADD --chmod=600 http") })
	with("http", "name", []string{command}, file, func(p *project) { p.replace("/file /file", "/file /"+p.unique()) })
	repo := func(p *project) {
		p.prepare = func() { p.site.commit(p.t, "one") }
		p.replace("LABEL", "ADD "+p.site.url+"/repo.git /repo\nLABEL")
	}
	with("git", "commit", []string{"remote {site}/repo.git"}, repo, func(p *project) { p.prepare = func() { p.site.commit(p.t, "two") } })
	with("git", "nothing", nil, repo, func(p *project) { p.prepare = nil })
	with("git", "directory", []string{command}, repo, func(p *project) { p.prepare = nil; p.replace("repo.git /repo", "repo.git /"+p.unique()) })
	with("git", "kept", []string{command}, repo, func(p *project) { p.prepare = nil; p.replace("ADD http", "ADD --keep-git-dir http") })
}

func bases(with wither) {
	on := func(trigger string) func(p *project) {
		return func(p *project) { p.base = p.derived("ONBUILD " + trigger) }
	}
	with("onbuild", "new", []string{"inserted ONBUILD RUN echo {} > /onbuild"}, func(*project) {}, func(p *project) { on("RUN echo " + p.unique() + " > /onbuild")(p) })
	with("onbuild", "a file that it copies", []string{"file unused content"}, on("COPY unused /onbuild"), func(p *project) { p.files["unused"] += p.unique() })
	with("platform", "another", []string{"platform"}, func(*project) {}, func(p *project) {
		p.base = p.unique()
		p.m.Run("import", "--platform", "linux/386", "-c", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", p.lane.tar, p.base)
		p.flags = append(p.flags, "--platform", "linux/386")
	})
}

func caches(add adder, with wither) {
	add("cache", "pruned", []string{"pruned"}, func(p *project) { p.prepare = func() { p.m.Run("builder", "prune", "-af") } })
	add("cache", "one that is empty", nil, func(p *project) {
		p.flags = append(p.flags, "--cache-from", "type=local,src="+filepath.Join(p.lane.dir, "none"))
	})
	kept := func(p *project) string { return filepath.Join(p.lane.dir, "cache") }
	with("cache", "imported after a prune", nil, func(p *project) {
		p.flags = append(p.flags, "--cache-to", "type=local,mode=max,dest="+kept(p))
	}, func(p *project) {
		p.flags = []string{"--cache-from", "type=local,src=" + kept(p)}
		p.prepare = func() { p.m.Run("builder", "prune", "-af") }
	})
	with("cache", "imported, and a file", []string{"file src/a.go content", "pruned"}, // a here-document has no result in the cache
		func(p *project) {
			p.flags = append(p.flags, "--cache-to", "type=local,mode=max,dest="+kept(p))
		}, func(p *project) {
			p.flags = []string{"--cache-from", "type=local,src=" + kept(p)}
			p.prepare = func() { p.m.Run("builder", "prune", "-af") }
			p.files["src/a.go"] += p.unique()
		})
}
