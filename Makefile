# mica: the two commands that matter are `make demo` and `make test`.
LDFLAGS := -s -w
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)"
PREFIX  ?= /usr/local
# The end-to-end tests start servers and mount filesystems: one package at a time.
E2E     := go test -tags e2e -count=1 -p 1 -timeout 30m
# Of each fuzz target: a number of runs (10000x), or a time (1m). By default scripts/fuzz chooses a number: where go ends a fuzz by time it may
# fail on its own deadline.
FUZZTIME ?=

.PHONY: all demo test check bench bench-publish bench-compare install setup fmt format vet lint unit fuzz e2e e2e-host e2e-vm vm parity conformance cluster-programs cluster-test cluster-bench portable dist size peers peers-bench clients clients-more docker29 docker29-programs programs tools clean

all: bin/mica bin/mica-catalog

.PHONY: bin/mica bin/mica-catalog
bin/mica:
	$(GOBUILD) -o $@ ./cmd/mica

# The program that lists packages, a module of its own: its dependencies are larger than mica (docs/dependencies.md).
bin/mica-catalog:
	cd cmd/mica-catalog && $(GOBUILD) -o ../../$@ .

## demo: what mica is for, on real input
demo: setup bin/mica bin/mica-catalog
	scripts/demo

## test: everything
test:
	$(MAKE) --no-print-directory -j 2 setup programs
	$(MAKE) --no-print-directory format vet lint size unit fuzz e2e

# What Go compiles while apt installs.
programs: peers clients bin/mica bin/mica-catalog

## check: what needs neither root nor a network nor Debian: format, vet, lint, unit tests
check: format vet lint
	go test -race -skip '^TestRoot' ./...
	cd cmd/mica-catalog && CGO_ENABLED=0 go test -trimpath ./...

## bench: mica beside its peers, in one run. The page, its charts and results.json go to bin/bench. BENCH='-only REGEXP' measures
## less; with -far, a peer that is far behind in the first round is not measured again.
BENCH ?= -far 1.7
bench: setup peers peers-bench docker29-programs bin/mica
	go run -tags e2e ./bench -json bin/bench/performance/results.json -page bin/bench/performance.md $(BENCH)
	cd bench/charts && go run . ../../bin/bench/performance

## bench-publish: the last results of make bench become docs/performance.md, for a release
bench-publish:
	cp -r bin/bench/performance bin/bench/performance.md docs/

## bench-compare: the benchmarks beside the code, of this commit and the one before
bench-compare: tools
	scripts/bench-compare

install: bin/mica bin/mica-catalog
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin bin/mica bin/mica-catalog

## setup: the packages that demo, test and bench need, by apt
setup:
	scripts/setup

fmt: tools
	bin/tools/golangci-lint fmt ./...

format: tools
	bin/tools/golangci-lint fmt --diff ./...

vet:
	go vet -tags e2e,guest ./...
	cd test/browser && go vet -tags e2e ./...
	cd cmd/mica-catalog && CGO_ENABLED=0 go vet -trimpath ./...
	cd test/conformance && go vet .

lint: tools
	bin/tools/golangci-lint run ./...
	cd cmd/mica-catalog && CGO_ENABLED=0 ../../bin/tools/golangci-lint run ./...

unit:
	go test -race ./...
	cd bench/charts && go test ./...
	cd cmd/mica-catalog && CGO_ENABLED=0 go test -trimpath ./...
	cd test/conformance && go test .

## fuzz: every fuzz target, briefly
fuzz:
	FUZZTIME=$(FUZZTIME) scripts/fuzz

e2e: peers clients dist bin/mica bin/mica-catalog
	$(MAKE) --no-print-directory -j 2 e2e-host e2e-vm

e2e-host:
	$(E2E) $$(go list -tags e2e ./test/... | grep -v '/test/vm$$')
	cd test/browser && $(E2E) ./...
	cd test/conformance && go run . -part

# The virtual machines share nothing with the tests of the host, which leave half of the processors' time.
e2e-vm: vm
	$(E2E) ./test/vm

# The disks of the virtual machines that test/vm boots.
vm:
	scripts/vm-disk bin/vm

## parity: the Dockerfiles that mica and BuildKit build to the same image
parity: peers bin/mica
	$(E2E) -v ./test/parity

## conformance: BuildKit's own integration suites against mica. CONFORMANCE='-suite dockerfile -run TestCopy.*' runs less of them;
## with -worker oci, buildkitd is tested
conformance: setup peers bin/mica bin/mica-catalog
	cd test/conformance && go run . $(CONFORMANCE)

# The programs of a Kubernetes of one node.
cluster-programs:
	scripts/cluster-programs bin/cluster

## cluster-test: mica build --on kubernetes, on a Kubernetes of one node that the test starts
cluster-test: setup cluster-programs dist bin/mica bin/mica-catalog
	go test -tags cluster -count=1 -timeout 30m ./test/cluster

## cluster-bench: many builds at once on a real control plane with simulated nodes. FLEET='-builds 1000 -share' measures others
cluster-bench: cluster-programs bin/mica
	go run -tags e2e ./test/cluster/fleet $(FLEET)

portable:
	GOARCH=amd64 $(GOBUILD) -o bin/portable/mica-linux-amd64 ./cmd/mica
	GOARCH=arm64 $(GOBUILD) -o bin/portable/mica-linux-arm64 ./cmd/mica
	cd cmd/mica-catalog && GOARCH=amd64 $(GOBUILD) -o ../../bin/portable/mica-catalog-linux-amd64 .
	cd cmd/mica-catalog && GOARCH=arm64 $(GOBUILD) -o ../../bin/portable/mica-catalog-linux-arm64 .

## dist: the files of a release, in bin/dist (docs/release.md)
dist:
	cd packaging/tools && CGO_ENABLED=0 go build -trimpath -o ../../bin/tools/ tool
	scripts/dist bin/dist

size: bin/mica bin/mica-catalog
	scripts/size bin/mica 50
	scripts/size bin/mica-catalog 25

peers:
	cd test/peers && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/moby/buildkit/version.Version=$$(go list -m -f "{{.Version}}" github.com/moby/buildkit)" -o ../../bin/peers/ tool
	cd test/peers/s3 && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../../../bin/peers/ tool

# Buildah's dependencies are not BuildKit's; only the benchmark needs it. It is C in part.
peers-bench:
	cd test/peers/buildah && CGO_ENABLED=1 go build -trimpath -tags "exclude_graphdriver_btrfs containers_image_openpgp" -ldflags "-s -w" -o ../../../bin/peers/ tool

# Docker Engine 29, a beta of its module, which no other program shares dependencies with: only docker29 and the benchmark need it. dockerd has
# containerd in it; runc is C in part, and refuses Docker's seccomp profile if it is built without libseccomp.
docker29-programs: clients
	cd test/peers/docker && CGO_ENABLED=0 go build -trimpath -tags no_systemd -ldflags "-s -w -X github.com/moby/moby/v2/dockerversion.Version=$$(go list -m -f "{{.Version}}" github.com/moby/moby/v2 | sed s/^v//)" -o ../../../bin/docker29/ github.com/moby/moby/v2/cmd/dockerd github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
	cd test/peers/docker && CGO_ENABLED=1 go build -trimpath -tags seccomp -ldflags "-s -w" -o ../../../bin/docker29/ github.com/opencontainers/runc

## docker29: what test/docker compares with Docker Engine 29 instead of Debian's 20.10, with each of its image stores
docker29: setup docker29-programs bin/mica
	MICA_TEST_DOCKER29=graphdriver $(E2E) ./test/docker
	MICA_TEST_DOCKER29=imagestore $(E2E) ./test/docker

# The clients of mica serve: Docker's command, buildx, compose and dive. Docker's dependencies are BuildKit's in the same versions where they can be.
clients: peers
	cd test/clients && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/docker/cli/cli/version.Version=$$(go list -m -f "{{.Version}}" github.com/docker/cli | sed "s/^v//; s/+.*//")" -o ../../bin/clients/docker github.com/docker/cli/cmd/docker
	cd test/clients && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/docker/buildx/version.Version=$$(go list -m -f "{{.Version}}" github.com/docker/buildx)" -o ../../bin/clients/docker-buildx github.com/docker/buildx/cmd/buildx
	cd test/clients/compose && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/docker/compose/v5/internal.Version=$$(go list -m -f "{{.Version}}" github.com/docker/compose/v5)" -o ../../../bin/clients/docker-compose github.com/docker/compose/v5/cmd
	cd test/clients/libraries && CGO_ENABLED=0 go test -tags e2e -trimpath -c -o ../../../bin/clients/libraries.test .
	cd test/clients/dive && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../../../bin/clients/dive github.com/wagoodman/dive

# Clients that take minutes to compile, for checks by hand: see docs/testing.md.
clients-more:
	cd test/clients/syft && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../../../bin/clients/syft github.com/anchore/syft/cmd/syft

tools:
	cd tools && go build -trimpath -o ../bin/tools/ tool

clean:
	rm -rf bin coverage.out
