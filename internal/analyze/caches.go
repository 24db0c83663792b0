package analyze

import (
	"fmt"
	"strings"

	"github.com/micabuild/mica/internal/analyze/filetree"
)

// cache is a directory that a program keeps files in which an image does not need.
type cache struct {
	path   string // of the directory, or the end of it
	rooted bool   // path is all of it
	name   string
	advice string
}

// cacheDirs are the directories of caches. The advice is what prevents them in a Dockerfile.
var cacheDirs = []cache{
	{"var/lib/apt/lists", true, "lists of apt", "rm -rf /var/lib/apt/lists/* in the RUN that updates them, or --mount=type=cache,target=/var/lib/apt"},
	{"var/cache/apt", true, "cache of apt", "apt-get clean in the RUN that installs, or --mount=type=cache,target=/var/cache/apt"},
	{"var/cache/apk", true, "cache of apk", "apk add --no-cache"},
	{"etc/apk/cache", true, "cache of apk", "apk add --no-cache"},
	{"var/cache/dnf", true, "cache of dnf", "dnf clean all in the RUN that installs, or --mount=type=cache,target=/var/cache/dnf"},
	{"var/cache/libdnf5", true, "cache of dnf", "dnf clean all in the RUN that installs, or --mount=type=cache,target=/var/cache/libdnf5"},
	{"var/cache/yum", true, "cache of yum", "yum clean all in the RUN that installs, or --mount=type=cache,target=/var/cache/yum"},
	{"var/cache/zypp", true, "cache of zypper", "zypper clean --all in the RUN that installs"},
	{"var/cache/pacman/pkg", true, "cache of pacman", "pacman -Scc --noconfirm in the RUN that installs"},
	{".cache/pip", false, "cache of pip", "pip install --no-cache-dir, or --mount=type=cache,target=/root/.cache/pip"},
	{".cache/uv", false, "cache of uv", "UV_NO_CACHE=1, or --mount=type=cache,target=/root/.cache/uv"},
	{".cache/pypoetry", false, "cache of poetry", "--mount=type=cache,target=/root/.cache/pypoetry"},
	{"conda/pkgs", false, "cache of conda", "conda clean --all in the RUN that installs"},
	{".npm/_cacache", false, "cache of npm", "npm cache clean --force in the RUN that installs, or --mount=type=cache,target=/root/.npm"},
	{".cache/yarn", false, "cache of yarn", "yarn cache clean in the RUN that installs, or --mount=type=cache,target=/root/.cache/yarn"},
	{"share/.cache/yarn", false, "cache of yarn", "yarn cache clean in the RUN that installs, or --mount=type=cache,target=/usr/local/share/.cache/yarn"},
	{".bun/install/cache", false, "cache of bun", "--mount=type=cache,target=/root/.bun/install/cache"},
	{".cache/go-build", false, "cache of the Go compiler", "build in a stage, or --mount=type=cache,target=/root/.cache/go-build"},
	{"go/pkg/mod", false, "modules of Go", "build in a stage, or --mount=type=cache,target=/go/pkg/mod"},
	{".cargo/registry", false, "crates of Cargo", "build in a stage, or --mount=type=cache,target=/usr/local/cargo/registry"},
	{"usr/local/cargo/registry", true, "crates of Cargo", "build in a stage, or --mount=type=cache,target=/usr/local/cargo/registry"},
	{".m2/repository", false, "repository of Maven", "build in a stage, or --mount=type=cache,target=/root/.m2"},
	{".gradle/caches", false, "caches of Gradle", "build in a stage, or --mount=type=cache,target=/root/.gradle"},
	{"usr/local/bundle/cache", true, "cache of Bundler", "rm -rf \"$GEM_HOME\"/cache in the RUN that installs"},
	{".composer/cache", false, "cache of Composer", "composer clear-cache in the RUN that installs, or --mount=type=cache,target=/root/.composer"},
	{".cache/composer", false, "cache of Composer", "composer clear-cache in the RUN that installs, or --mount=type=cache,target=/root/.cache/composer"},
	{".cache/bazel", false, "cache of Bazel", "build in a stage, or --mount=type=cache,target=/root/.cache/bazel"},
	{".ccache", false, "cache of ccache", "--mount=type=cache,target=/root/.ccache"},
	{".git/objects", false, "history of a Git repository", "add .git to .dockerignore, or COPY only what the image needs"},
	{"tmp", true, "temporary files", "remove them in the RUN that writes them, or --mount=type=tmpfs,target=/tmp"},
	{"var/tmp", true, "temporary files", "remove them in the RUN that writes them, or --mount=type=tmpfs,target=/var/tmp"},
	{"var/log", true, "logs", "remove them in the RUN that writes them"},
}

// matches reports whether a directory is the cache.
func (c *cache) matches(path string) bool {
	return path == c.path || !c.rooted && strings.HasSuffix(path, c.path) && path[len(path)-len(c.path)-1] == '/'
}

// cachesByName has the caches by the last component of their directories.
func cachesByName() map[string][]*cache {
	names := map[string][]*cache{}
	for i := range cacheDirs {
		c := &cacheDirs[i]
		name := c.path[strings.LastIndexByte(c.path, '/')+1:]
		names[name] = append(names[name], c)
	}
	return names
}

// caches finds caches in the image.
func (a *analysis) caches() []Finding {
	names := cachesByName()
	list := []Finding{}
	a.tree.Walk(func(n *filetree.Node) bool {
		for _, c := range names[n.Name] {
			if len(n.Children) == 0 || !c.matches(n.Path()) {
				continue
			}
			if f := a.cacheFinding(c, n); f.Bytes >= worthSaying {
				list = append(list, f)
			}
			return false
		}
		return true
	})
	return sortFindings(list)
}

// cacheFinding measures what a cache has in the image. Its step is that which wrote most.
func (a *analysis) cacheFinding(c *cache, dir *filetree.Node) Finding {
	f := Finding{Kind: KindCache, Path: dir.Path(), Advice: c.advice}
	steps := map[int]int64{}
	dir.Walk(func(n *filetree.Node) bool {
		if v := n.At(a.tree.Layers); v != nil && v.Bytes() > 0 {
			f.Files++
			f.Bytes += v.Bytes()
			steps[a.step(v.Layer)] += v.Bytes()
		}
		return true
	})
	for step, bytes := range steps {
		if most := steps[f.Step]; bytes > most || bytes == most && step < f.Step {
			f.Step = step
		}
	}
	f.Text = fmt.Sprintf("%s: %s", c.name, countFiles(f.Files, f.Bytes))
	return f
}
