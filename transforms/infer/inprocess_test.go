package infer_test

import (
	"fmt"
	"strings"
	"testing"

	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/judge"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

// judged has responses of other people's judged outside of a pipeline.
func judged(t *testing.T, attempt, url, journal string) ([]schemas.Dossier, map[string]schemas.CallTally) {
	t.Helper()
	role := stage.Role{Name: schemas.RoleJudge, Model: "m", Endpoints: []stage.Endpoint{{URL: url}}}
	spec, err := judge.Spec(judge.Options{Role: role, N: 3})
	if err != nil {
		t.Fatal(err)
	}
	dossiers := make([]schemas.Dossier, 20)
	for i := range dossiers {
		messages := []schemas.Message{{Role: "user", Content: fmt.Sprint("Question ", i)}}
		d := &dossiers[i]
		d.Prompt = schemas.Prompt{ID: schemas.PromptID(messages), Messages: messages}
		for _, text := range []string{"Yes.", "No."} {
			d.Responses = append(d.Responses, schemas.Response{ID: schemas.ResponseID(d.Prompt.ID, "", text), Text: text, Status: schemas.Complete})
		}
	}
	calls, err := infer.RunInProcess(t.Context(), dossiers, 2, []stage.Spec{spec}, infer.Options{Attempt: attempt, Journal: journal})
	if closeErr := infer.Attach(attempt).Close(); err != nil || closeErr != nil {
		t.Fatal(err, closeErr)
	}
	return dossiers, calls
}

// Dossiers are judged in their order, and calls in the journal are not made again.
func TestDossiers(t *testing.T) {
	w := world.Default()
	server, err := simulator.Start(simulator.Options{World: &w, FreshTexts: true, Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	journal := t.TempDir()
	first, calls := judged(t, "dossiers-1", server.URL(), journal)
	// 20 prompts, 2 responses, 3 judgments.
	if c := calls[schemas.StageJudge]; c.Generations != 120 || c.Replayed != 0 {
		t.Errorf("%+v, want 120 generations", calls)
	}
	second, calls := judged(t, "dossiers-2", server.URL(), journal)
	if c := calls[schemas.StageJudge]; c.Requests != 0 || c.Generations != 0 || c.Replayed != 120 {
		t.Errorf("%+v, want 120 replayed and nothing asked", calls)
	}
	for i := range first {
		for k := range first[i].Responses {
			was, is := first[i].Responses[k].Judgments, second[i].Responses[k].Judgments
			if len(was) != 3 || len(is) != 3 {
				t.Fatalf("%d and %d judgments, want 3", len(was), len(is))
			}
			for j := range was {
				if was[j].Text == "" || was[j].Text != is[j].Text {
					t.Errorf("judgment %d of response %d of prompt %d was %.40q and is %.40q", j, k, i, was[j].Text, is[j].Text)
				}
			}
		}
	}
}

func TestDossiersThatCannotBe(t *testing.T) {
	defer func() {
		if err := infer.Attach("dossiers-3").Close(); err != nil {
			t.Error(err)
		}
	}()
	twice := []schemas.Dossier{{Prompt: schemas.Prompt{ID: "p"}}, {Prompt: schemas.Prompt{ID: "p"}}}
	if _, err := infer.RunInProcess(t.Context(), twice, 0, nil, infer.Options{Attempt: "dossiers-3"}); err == nil || !strings.Contains(err.Error(), "prompt p has two dossiers") {
		t.Errorf("two dossiers of one prompt: %v", err)
	}
	if _, err := infer.RunInProcess(t.Context(), nil, 0, nil, infer.Options{}); err == nil || !strings.Contains(err.Error(), "Attempt is empty") {
		t.Errorf("no attempt: %v", err)
	}
	unknown := []stage.Spec{{Name: "fly"}}
	if _, err := infer.RunInProcess(t.Context(), nil, 0, unknown, infer.Options{Attempt: "dossiers-3"}); err == nil || !strings.Contains(err.Error(), `no stage "fly"`) {
		t.Errorf("an unknown stage: %v", err)
	}
}
