package judge

import (
	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"coeval/transforms/infer"
	"coeval/transforms/stage"
)

// Judge runs this stage alone: it adds to every complete response its judgments.
//
// It takes a PCollection<schemas.Dossier> and returns one of the same length. It returns an
// error if o or io is invalid. A pipeline that runs several stages gives their specs to
// package infer instead, which runs them in one DoFn.
func Judge(s beam.Scope, dossiers beam.PCollection, o Options, io infer.Options) (beam.PCollection, error) {
	spec, err := Spec(o)
	if err != nil {
		return beam.PCollection{}, err
	}
	return infer.Apply(s.Scope("judge.Judge"), dossiers, []stage.Spec{spec}, io)
}
