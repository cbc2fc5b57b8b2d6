// Package coders registers a Beam coder for every type that crosses a shuffle. Import it for this effect
// in every package that emits one of the types.
//
// Beam's default coder for a struct is a schema row, which fails in two ways on Flink. Rows with a nil
// slice or map disappear silently. The job server caches the layout of each Go type by name until it
// exits, so it misreads values of a changed type. With the registered coders a runner sees bytes only.
//
// Decoding returns an equal value, except that an empty slice or map may become nil. The encoding is
// JSON. No file contains it, so it may change between builds.
package coders

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"coeval/schemas"
)

func init() {
	beam.RegisterCoder(reflect.TypeFor[schemas.Prompt](), encodePrompt, decodePrompt)
	beam.RegisterCoder(reflect.TypeFor[schemas.Dossier](), encodeDossier, decodeDossier)
	beam.RegisterCoder(reflect.TypeFor[schemas.Record](), encodeRecord, decodeRecord)
	beam.RegisterCoder(reflect.TypeFor[schemas.PositionCounts](), encodePositionCounts, decodePositionCounts)
	beam.RegisterCoder(reflect.TypeFor[schemas.BalanceCounts](), encodeBalanceCounts, decodeBalanceCounts)
	beam.RegisterCoder(reflect.TypeFor[schemas.Tally](), encodeTally, decodeTally)
	beam.RegisterCoder(reflect.TypeFor[schemas.Manifest](), encodeManifest, decodeManifest)
}

// Beam looks up a coder's functions by name, so that each type needs a pair of named functions.

func encodePrompt(v schemas.Prompt) ([]byte, error) { return encode(v) }

func decodePrompt(b []byte) (schemas.Prompt, error)                 { return decode[schemas.Prompt](b) }
func encodeDossier(v schemas.Dossier) ([]byte, error)               { return encode(v) }
func decodeDossier(b []byte) (schemas.Dossier, error)               { return decode[schemas.Dossier](b) }
func encodeRecord(v schemas.Record) ([]byte, error)                 { return encode(v) }
func decodeRecord(b []byte) (schemas.Record, error)                 { return decode[schemas.Record](b) }
func encodePositionCounts(v schemas.PositionCounts) ([]byte, error) { return encode(v) }
func encodeTally(v schemas.Tally) ([]byte, error)                   { return encode(v) }
func decodeTally(b []byte) (schemas.Tally, error)                   { return decode[schemas.Tally](b) }
func encodeManifest(v schemas.Manifest) ([]byte, error)             { return encode(v) }
func decodeManifest(b []byte) (schemas.Manifest, error)             { return decode[schemas.Manifest](b) }

func decodePositionCounts(b []byte) (schemas.PositionCounts, error) {
	return decode[schemas.PositionCounts](b)
}

func encodeBalanceCounts(v schemas.BalanceCounts) ([]byte, error) { return encode(v) }

func decodeBalanceCounts(b []byte) (schemas.BalanceCounts, error) {
	return decode[schemas.BalanceCounts](b)
}

func encode[T any](v T) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("coders: encode %T: %w", v, err)
	}
	return b, nil
}

func decode[T any](b []byte) (T, error) {
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("coders: decode %T: %w", v, err)
	}
	return v, nil
}
