// Package docs checks the pages of the repository: the Markdown files at its top, in docs and in
// datasets. It consists of tests.
//
// `go test ./runners/docs` checks in a second or two that links and anchors lead somewhere, that
// sentences are short, that every YAML file and block is a valid config, and that the messages in
// docs/troubleshooting.md occur in the source. `make docs` also runs the sh blocks of the pages with the
// built program, see [block].
package docs
