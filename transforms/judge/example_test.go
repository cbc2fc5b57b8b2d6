package judge_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/judge"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

func init() {
	register.Function1x0(printJudgments)
}

func printJudgments(d schemas.Dossier) {
	for _, r := range d.Responses {
		parsed := 0
		for _, j := range r.Judgments {
			if j.Unparsed == "" {
				parsed++
			}
		}
		fmt.Printf("%s response, %d judgments, %d parsed\n", r.Status, len(r.Judgments), parsed)
	}
}

// The transform runs the stage alone, here against a simulated worker.
func ExampleJudge() {
	w := world.World{QualityMean: 3, Spread: 1, JudgeNoise: 1, ResponseChars: 100}
	worker, err := simulator.Start(simulator.Options{World: &w})
	if err != nil {
		log.Fatal(err)
	}
	served := stage.Role{Name: schemas.RoleJudge, Model: "judge-model", Endpoints: []stage.Endpoint{{URL: worker.URL()}}}
	d := dossier(w.Answer(conversation, "actor-model", 1, 0).Text, "Cut off in the")
	d.Responses[1].Status = schemas.Truncated

	p, s := beam.NewPipelineWithRoot()
	judged, err := judge.Judge(s, beam.Create(s, d), judge.Options{Role: served}, infer.Options{Attempt: "example"})
	if err != nil {
		log.Fatal(err)
	}
	beam.ParDo0(s, printJudgments, judged)
	if _, err := beam.Run(context.Background(), "prism", p); err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(infer.Attach("example").Close(), worker.Close()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// complete response, 11 judgments, 11 parsed
	// truncated response, 0 judgments, 0 parsed
}

// The stage asks for three judgments of a response. One of them can't be read.
func ExampleStage() {
	stage, err := judge.Stage(judge.Options{Role: role, N: 3})
	if err != nil {
		log.Fatal(err)
	}
	texts := []string{
		"It names the right city, and nothing else.\n\nScore: 4",
		"Correct, short, tailored.\n\n**Score:** 4.5/5",
		"A fine answer. Score: 4 or 5",
	}
	worker := answers(func(_ string, replicate int) schemas.Generation {
		return schemas.Generation{Text: texts[replicate], FinishReason: "stop"}
	})
	d := dossier("Rome.")
	if err := stage(context.Background(), worker, &d); err != nil {
		log.Fatal(err)
	}
	for _, j := range d.Responses[0].Judgments {
		fmt.Printf("%d %d %q\n", j.Replicate, j.Score, j.Unparsed)
	}
	// Output:
	// 0 4000 ""
	// 1 4500 ""
	// 2 0 "ambiguous"
}
