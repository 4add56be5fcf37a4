# Needs Go and nothing else; `make test` fetches the peers it tests against itself, where it can.
GO      ?= go
FUZZTIME ?= 30s
# No time limit of go test's own for benchmarks and fuzzing: the load test alone runs for minutes.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: demo test bench lint fuzz build

# The whole path on this machine's loopback: a carrier, a push service, a phone, and the bridge between them.
demo:
	$(GO) run ./cmd/reveille demo

test:
	.ci/peers.sh
	$(GO) vet ./...
	$(GO) test -race ./...

bench:
	$(GO) test -run=NONE -bench=. -benchmem -timeout=0 ./...

lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w these: $$unformatted" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# Every fuzz target of every package, FUZZTIME each (make fuzz FUZZTIME=5m). The library's minimising is cut short: it runs for a
# minute at a time in which nothing new is tried.
fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -run=NONE -list='^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "== $$package $$target"; \
			$(GO) test -run=NONE -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=10x -timeout=0 $$package; \
		done; \
	done

build:
	$(GO) build -trimpath -o reveille ./cmd/reveille
