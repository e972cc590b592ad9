# make test is the second command of the README: it installs what it lacks
# (as root on Debian) and runs every check. .ci/run is the same with its
# closing lines.
.PHONY: all build test unit check bench fuzz corpus

all: build

build:
	CGO_ENABLED=0 go build -trimpath -o postern ./cmd/postern

test:
	.ci/run

unit:
	go test -race ./...

bench:
	go test -run '^$$' -bench . -benchmem ./...
	deploy/bench/run
