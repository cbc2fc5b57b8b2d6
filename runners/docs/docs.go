// Package docs checks the pages of the repository: the Markdown files at its top, in docs and in
// datasets. It consists of tests.
//
// `go test ./runners/docs` checks these properties, among others:
//
//   - Every link and anchor has a target.
//   - Sentences are short.
//   - Every YAML file and block is a valid config.
//   - The messages in docs/troubleshooting.md occur in the source.
//
// `make docs` also runs the sh blocks of the pages with the built program, see [block].
package docs
