package generate_test

import (
	"context"
	"fmt"
	"log"

	"coeval/schemas"
	"coeval/transforms/generate"
)

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
