package meta_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/infer"
	"coeval/transforms/judge"
	"coeval/transforms/meta"
	"coeval/transforms/score"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

func init() {
	register.Function1x0(printComparisons)
}

func printComparisons(d schemas.Dossier) {
	fmt.Println(len(d.Contested().DistinctJudgments()), "judgments,", len(d.Comparisons), "comparisons")
}

// Each transform runs its stage alone; one after the other they make a dossier. A pipeline
// gives the stages to package infer instead, which runs them in one DoFn.
func ExampleMeta() {
	w := world.World{QualityMean: 3, Spread: 1, JudgeNoise: 1, MetaSlope: 2, ResponseChars: 100}
	worker, err := simulator.Start(simulator.Options{World: &w})
	if err != nil {
		log.Fatal(err)
	}
	served := func(name string) stage.Role {
		return stage.Role{Name: name, Model: name + "-model", Endpoints: []stage.Endpoint{{URL: worker.URL()}}}
	}
	io := infer.Options{Attempt: "example"}

	p, s := beam.NewPipelineWithRoot()
	dossiers, err := generate.Generate(s, beam.Create(s, prompt), generate.Options{Role: served(schemas.RoleActor)}, io)
	if err != nil {
		log.Fatal(err)
	}
	if dossiers, err = judge.Judge(s, dossiers, judge.Options{Role: served(schemas.RoleJudge)}, io); err != nil {
		log.Fatal(err)
	}
	if dossiers, err = score.Score(s, dossiers, score.Options{}); err != nil {
		log.Fatal(err)
	}
	if dossiers, err = meta.Meta(s, dossiers, meta.Options{Role: served(schemas.RoleMetaJudge)}, io); err != nil {
		log.Fatal(err)
	}
	beam.ParDo0(s, printComparisons, dossiers)
	if _, err := beam.Run(context.Background(), "prism", p); err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(infer.Attach("example").Close(), worker.Close()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 11 judgments, 110 comparisons
}

// The stage compares three judgments in all six orders. The meta-judge likes the higher score.
func ExampleStage() {
	stage, err := meta.Stage(meta.Options{Role: role})
	if err != nil {
		log.Fatal(err)
	}
	worker := answers{say: func(message string) schemas.Generation {
		if a, b := shown(message, three); a > b {
			return says("Winner: A")
		}
		return says("Winner: B")
	}}
	d := dossier(three...)
	if err := stage(context.Background(), worker, &d); err != nil {
		log.Fatal(err)
	}
	wins := map[schemas.Winner]int{}
	for _, c := range d.Comparisons {
		wins[c.Winner]++
	}
	fmt.Println(len(d.Comparisons), "comparisons,", wins[schemas.First], "won by the first,", wins[schemas.Second], "by the second")
	// Output:
	// 6 comparisons, 3 won by the first, 3 by the second
}
