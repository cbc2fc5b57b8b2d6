# The program for one machine: docker build -f runners/images/coeval.Dockerfile -t coeval .
#
# It runs as a user without rights on the host. Mount the prompts and OUT:
#
#   docker run --rm -v "$PWD:/data" -w /data -u "$(id -u):$(id -g)" coeval run --url … --prompts prompts.jsonl --out out
FROM golang:1.26-bookworm AS build
ARG VERSION=
ARG COMMIT=
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X main.stampedVersion=$VERSION -X main.stampedCommit=$COMMIT" -o /coeval ./runners/coeval

# It has certificates, time zones and an unprivileged user, and no shell.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /coeval /usr/local/bin/coeval
COPY LICENSE /usr/share/doc/coeval/LICENSE
ENTRYPOINT ["/usr/local/bin/coeval"]
