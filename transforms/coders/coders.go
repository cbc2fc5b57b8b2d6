// Package coders gives every type that crosses a shuffle a coder of its own, so that a
// runner sees opaque bytes.
//
// Beam's default for a struct is a schema row. With it a nil slice or map loses rows
// silently on Flink, and Flink's Java side caches a type's layout under the Go type's name
// for the life of the job server. Import this package for its effect in every package that
// emits one of the types.
//
// It promises that decode(encode(v)) has the same fields as v; a slice or map of length 0
// comes back with length 0. The encoding is JSON and may change between builds: it never
// reaches a file.
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
	beam.RegisterCoder(reflect.TypeFor[schemas.Tally](), encodeTally, decodeTally)
	beam.RegisterCoder(reflect.TypeFor[schemas.Manifest](), encodeManifest, decodeManifest)
}

// Beam finds a coder's functions by name, so each type has a named pair.

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
