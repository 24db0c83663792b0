// Kaniko's integration tests: their Dockerfiles and the files that those read. Nothing of it is compiled.
module github.com/micabuild/mica/test/pods/kaniko

go 1.26

require github.com/chainguard-dev/kaniko v1.25.5
