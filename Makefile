# make test is the second command of the README: it installs what it lacks
# (as root on Debian) and runs every check. .ci/run is the same with its
# closing lines.
.PHONY: all build test unit bench torture

all: build

build:
	CGO_ENABLED=0 go build -trimpath -o postern ./cmd/postern

test:
	.ci/run

unit:
	go test -race ./...

# what takes too long for every change; deploy/integration/torture.md is the
# report of the last run
torture:
	POSTERN_KILLS=500 POSTERN_VIRUSES=1000 go test -count=1 -timeout 120m -tags integration -run 'TestMilterKills|TestQueueKills|TestManyViruses' -v ./deploy/integration

bench:
	go test -run '^$$' -bench . -benchmem ./...
	deploy/bench/run
