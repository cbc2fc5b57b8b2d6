package simulator_test

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"strings"

	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
)

func ExampleStart() {
	w, err := world.Named("noisy")
	if err != nil {
		log.Fatal(err)
	}
	worker, err := simulator.Start(simulator.Options{World: &w})
	if err != nil {
		log.Fatal(err)
	}
	defer func() {
		if err := worker.Close(); err != nil {
			log.Print(err)
		}
	}()

	resp, err := http.Post(worker.URL()+"/chat/completions", "application/json", strings.NewReader(
		`{"model": "m", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "n": 3, "seed": 1}`))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Choices []struct {
			Message struct{ Content string }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		log.Fatal(err)
	}
	for _, choice := range answer.Choices {
		quality, ok := w.Quality(choice.Message.Content)
		fmt.Printf("%.1f %v\n", quality, ok)
	}
	// Output:
	// 3.8 true
	// 2.9 true
	// 3.4 true
}
