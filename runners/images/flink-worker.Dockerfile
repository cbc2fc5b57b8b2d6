# A Flink whose task managers start workers as processes, which wants
# --environment_type=PROCESS --environment_config='{"command":"/opt/coeval/worker.sh"}'.
#
#   docker build -f runners/images/flink-worker.Dockerfile -t coeval-flink .
#
# The image has no program of ours: each job brings its own. Keep Beam's boot at the version in go.mod.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download && CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /boot github.com/apache/beam/sdks/v2/go/container

FROM flink:1.19.3-java17
COPY --from=build /boot /opt/coeval/boot
COPY --chmod=755 runners/flink/worker.sh /opt/coeval/worker.sh
