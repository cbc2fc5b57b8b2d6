package meta

import (
	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"coeval/transforms/infer"
	"coeval/transforms/stage"
)

// Meta runs this stage alone: it compares the judgments of every contested response.
//
// It takes a PCollection<schemas.Dossier> and returns one of the same length. It returns an
// error if o or io is invalid. A pipeline that runs several stages gives their specs to
// package infer instead, which runs them in one DoFn.
func Meta(s beam.Scope, dossiers beam.PCollection, o Options, io infer.Options) (beam.PCollection, error) {
	spec, err := Spec(o)
	if err != nil {
		return beam.PCollection{}, err
	}
	return infer.Apply(s.Scope("meta.Meta"), dossiers, []stage.Spec{spec}, io)
}
