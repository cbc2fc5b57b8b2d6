package generate

import (
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/stage"
)

func init() {
	register.Function1x1(openDossierFn)
}

// Generate runs this stage alone: it opens a dossier on every prompt and gives it its responses.
//
// It takes a PCollection<schemas.Prompt> and returns a PCollection<schemas.Dossier> of the
// same length. It returns an error if o or io is invalid. A pipeline that runs several stages
// gives their specs to package infer instead, which runs them in one DoFn.
func Generate(s beam.Scope, prompts beam.PCollection, o Options, io infer.Options) (beam.PCollection, error) {
	spec, err := Spec(o)
	if err != nil {
		return beam.PCollection{}, err
	}
	s = s.Scope("generate.Generate")
	return infer.Apply(s, beam.ParDo(s, openDossierFn, prompts), []stage.Spec{spec}, io)
}

// openDossierFn returns the empty dossier of a prompt.
func openDossierFn(p schemas.Prompt) schemas.Dossier {
	return schemas.Dossier{Prompt: p}
}
