# `make demo` needs Go alone; `make test` installs what else it needs by itself where it can (.ci/peers.sh).
GO       ?= go
FUZZTIME ?= 30s
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: demo test bench bench-packages bench-load bench-media lint fuzz build

# The whole path on this machine's loopback: a carrier, a push service, a phone, and the bridge between them.
demo:
	$(GO) run ./cmd/reveille demo

# One package after the other, as the real peers and the demo play and hear audio in real time: another package's tests on the same
# processors would make gaps in it. All is compiled first, which can use every processor.
test:
	.ci/peers.sh
	$(GO) vet ./...
	$(GO) build -race ./...
	$(GO) test -race -p 1 $(TESTFLAGS) ./...

# First the packages', each long enough for steady figures (1 to 2 minutes), then the whole bridge under load, beside Kamailio
# where that does the same work, each case once (some 20 minutes; one alone: make bench-load LOAD=Wake). No time limit of go test's own.
LOAD ?= .
bench: bench-packages bench-load
bench-packages:
	$(GO) test -run='^$$' -bench=. -benchmem -benchtime=300ms -p 1 -timeout=0 \
		$$(grep -rl --include='*_test.go' '^func Benchmark' . | grep -v -e /loadtest/ -e /mediabench/ | xargs -n 1 dirname | sort -u)
bench-load:
	$(GO) test -run='^$$' -bench='$(LOAD)' -benchtime=1x -timeout=0 ./cmd/reveille/loadtest

# The media relay beside rtpengine and the kernel's limit, on a quiet machine and as root; some 12 minutes. What the columns mean:
# go doc ./cmd/reveille/mediabench. One row in a few seconds: make bench-media ONLY=sockets CALLS=1000 SECONDS=5 ROUNDS=1
bench-media:
	@ONLY='$(ONLY)' CALLS='$(CALLS)' SECONDS='$(SECONDS)' ROUNDS='$(ROUNDS)' PROFILE='$(PROFILE)' \
		$(GO) test -run='^$$' -bench=. -benchtime=1x -timeout=0 ./cmd/reveille/mediabench

lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w these: $$unformatted" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# Every fuzz target of every package, FUZZTIME each (make fuzz FUZZTIME=5m). The library's minimising is cut short: it runs for a
# minute at a time in which nothing new is tried.
fuzz:
	@set -e; packages=$$($(GO) list ./...); for package in $$packages; do \
		listed=$$($(GO) test -list='^Fuzz' $$package) || { echo "$$listed" >&2; exit 1; }; \
		for target in $$(echo "$$listed" | grep '^Fuzz' || true); do \
			echo "== $$package $$target"; \
			$(GO) test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=20x -timeout=0 $$package; \
		done; \
	done

build:
	$(GO) build -trimpath -o reveille ./cmd/reveille
