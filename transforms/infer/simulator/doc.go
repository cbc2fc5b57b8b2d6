// Package simulator is a stand-in for an inference worker.
package simulator
