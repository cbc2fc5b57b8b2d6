package judge_test

import (
	"context"
	"fmt"
	"log"

	"coeval/schemas"
	"coeval/transforms/judge"
)

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
