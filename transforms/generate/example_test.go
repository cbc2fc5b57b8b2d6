package generate_test

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
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

func init() {
	register.Function1x0(printResponses)
}

func printResponses(d schemas.Dossier) {
	fmt.Printf("%s %d responses\n", d.Prompt.Messages[0].Content, len(d.Responses))
}

// The transform runs the stage alone, here against a simulated worker.
func ExampleGenerate() {
	worker, err := simulator.Start(simulator.Options{World: &world.World{ResponseChars: 100}})
	if err != nil {
		log.Fatal(err)
	}
	actor := stage.Role{Name: schemas.RoleActor, Model: "actor-model", Endpoints: []stage.Endpoint{{URL: worker.URL()}}}

	p, s := beam.NewPipelineWithRoot()
	prompts := beam.Create(s, newPrompt("Why is the sky blue?"), newPrompt("What is rain?"))
	dossiers, err := generate.Generate(s, prompts, generate.Options{Role: actor}, infer.Options{Attempt: "example"})
	if err != nil {
		log.Fatal(err)
	}
	beam.ParDo0(s, printResponses, dossiers)
	if _, err := beam.Run(context.Background(), "prism", p); err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(infer.Attach("example").Close(), worker.Close()); err != nil {
		log.Fatal(err)
	}
	// Unordered output:
	// Why is the sky blue? 7 responses
	// What is rain? 7 responses
}

// The stage asks for three responses. Two of them are the same text.
func ExampleStage() {
	stage, err := generate.Stage(generate.Options{Role: role, N: 3})
	if err != nil {
		log.Fatal(err)
	}
	worker := answers{says("Paris.", "stop"), says("The capital is", "length"), says(" Paris.\n", "stop")}
	d := schemas.Dossier{Prompt: prompt}
	if err := stage(context.Background(), worker, &d); err != nil {
		log.Fatal(err)
	}
	for _, r := range d.Responses {
		fmt.Println(r.Replicates, r.Status, r.Text)
	}
	// Output:
	// [0 2] complete Paris.
	// [1] truncated The capital is
}
