# berth: what to type.
#
#   make build    bin/berthd, the registry, and bin/berth, the image tool
#   make run      build both and run berthd here (data in ./berth-data, http and https on localhost:5000)
#   make check    formatting, vet, lint and the rooms' own tests: under two minutes, nothing to install
#   make test     everything: installs the real clients and servers first (apt, Go modules), then drives them
#   make soak     random operations against a model, and clients against collection, for an hour each: SECONDS=86400 SEED=7
#   make bench    side by side with other registries; the table of docs/performance.md

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

# The rooms' own tests, the whole-product tests that start a real berthd, and those of them that throw dice: they say with
# which seed, and what they did.
UNIT  = $$(go list ./... | grep -v '/test/')
WHOLE = $$(go list ./... | grep '/test/' | grep -Ev '/test/(oracle|collect)$$')
DICE  = ./test/oracle ./test/collect

CACHE := $${BERTH_TEST_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/berth-test}
FUZZTIME ?= 10s
# The race detector, without SQLite's C that was translated to Go, which keeps its own locks, and without the hashes of
# passwords: they have nothing of ours to find, and instrumented they take most of the time.
RACE = -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=golang.org/x/crypto/...=-race=false
# Empty it to let a test skip when the program it needs is missing: make test BERTH_TEST_REQUIRE=
BERTH_TEST_REQUIRE ?= 1

.PHONY: run build setup test soak check unit fmt fmt-check vet lint bench fuzz-short clean

build: ## bin/berthd and bin/berth, static
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/berthd ./cmd/berthd
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/berth ./cmd/berth

run: build ## in the foreground; ARGS="--addr :5000 --host registry.example.com"
	exec ./bin/berthd $(ARGS)

setup:
	test/setup/setup.sh

test: setup fmt-check vet
	@echo "== rooms, with the race detector"
	GORACE=atexit_sleep_ms=50 BERTH_TEST_REQUIRE=$(BERTH_TEST_REQUIRE) go test $(RACE) -timeout 20m $(UNIT)
	@echo "== the whole product: conformance, crash, interop with real clients"
	BERTH_TEST_REQUIRE=$(BERTH_TEST_REQUIRE) go test -count=1 -timeout 30m -p 1 $(WHOLE)
	@echo "== random operations: seeds, and what was done"
	BERTH_TEST_REQUIRE=$(BERTH_TEST_REQUIRE) go test -count=1 -timeout 30m -p 1 -v $(DICE)

SECONDS ?= 3600
SEED ?=
# The same tests as in make test, which gives them about half a minute each. Each kind of registry has SECONDS.
soak:
	BERTH_TEST_REQUIRE=$(BERTH_TEST_REQUIRE) BERTH_ORACLE_SECONDS=$(SECONDS) BERTH_ORACLE_SEED=$(SEED) go test -count=1 -timeout 0 -v ./test/oracle
	BERTH_TEST_REQUIRE=$(BERTH_TEST_REQUIRE) BERTH_COLLECT_SECONDS=$(SECONDS) BERTH_COLLECT_SEED=$(SEED) go test -count=1 -timeout 0 -v ./test/collect

check: fmt-check vet lint unit

unit:
	go test -short -timeout 5m $(UNIT)

fmt:
	gofmt -w $$(git ls-files '*.go')

fmt-check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted (make fmt):"; echo "$$unformatted"; exit 1; fi

vet:
	go vet ./...

# golangci-lint takes minutes to build, so it is used when it is there: test/setup/setup.sh lint
lint:
	@version=$$(awk '$$2 == "golangci-lint" { print $$4 }' test/setup/peers.txt); \
	linter=$(CACHE)/bin/golangci-lint@$$version/golangci-lint; \
	if [ -x "$$linter" ]; then "$$linter" run ./...; \
	else echo "lint: golangci-lint $$version is not installed, only vet ran; to install it: test/setup/setup.sh lint"; fi

bench:
	test/setup/setup.sh test bench
	go run ./test/load $(ARGS)

fuzz-short: ## each fuzz target for FUZZTIME
	@for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' "$$package" | grep '^Fuzz' || true); do \
	    echo "== $$package $$target"; \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$package"; \
	  done; \
	done

clean: ## built programs and Go's test cache of this module; never a data directory
	rm -rf bin
	go clean -testcache
