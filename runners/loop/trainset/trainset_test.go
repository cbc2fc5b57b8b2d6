package trainset_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/datasets/shards"
	"coeval/runners/loop/trainset"
	"coeval/schemas"
)

func message(role, content string) []schemas.Message {
	return []schemas.Message{{Role: role, Content: content}}
}

// writeRun writes a run with one pair of each role for each prompt, the actor's in several shards.
func writeRun(t *testing.T, prompts, shardCount int) string {
	t.Helper()
	dir := t.TempDir()
	for _, role := range []string{schemas.RoleActor, schemas.RoleJudge} {
		if err := os.MkdirAll(filepath.Join(dir, role), 0o755); err != nil {
			t.Fatal(err)
		}
		parts := make([][]schemas.Pair, shardCount)
		for i := range prompts {
			id := schemas.PromptID(message("user", fmt.Sprint(i)))
			chosen, rejected := fmt.Sprintf("good %s %d", role, i), fmt.Sprintf("bad %s %d", role, i)
			parts[i%shardCount] = append(parts[i%shardCount], schemas.Pair{
				ID: schemas.PairID(role, chosen, rejected), PromptID: id, Prompt: message("user", fmt.Sprint(i)),
				Chosen: message("assistant", chosen), Rejected: message("assistant", rejected), Metadata: "{}",
			})
		}
		for i, part := range parts {
			var b bytes.Buffer
			if _, err := shards.WriteRows(&b, part); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, role, fmt.Sprintf("train-%d.parquet", i)), b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func both() trainset.Options {
	return trainset.Options{Roles: []string{schemas.RoleActor, schemas.RoleJudge}}
}

func rows(t *testing.T, dir, name string) []schemas.Pair {
	t.Helper()
	var pairs []schemas.Pair
	err := shards.ReadRows(t.Context(), filepath.Join(dir, name), func(p *schemas.Pair) error {
		pairs = append(pairs, *p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pairs
}

// Every pair is in exactly one of training and held-out part, all pairs of a prompt on one side, and
// the number of shards changes no byte.
func TestSplit(t *testing.T) {
	o := both()
	o.HeldOut = 0.25
	var first *trainset.Set
	for _, shardCount := range []int{1, 3} {
		dir := t.TempDir()
		s, err := trainset.Make(t.Context(), writeRun(t, 200, shardCount), dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if s.Actor+s.Judge+s.HeldOut != 400 || s.Actor != s.Judge {
			t.Errorf("%d actor, %d judge and %d held-out pairs; want 400 in all, as many of both", s.Actor, s.Judge, s.HeldOut)
		}
		// 200 prompts at 1/4: 50 with a standard deviation of 6.1.
		if s.HeldOut < 2*26 || s.HeldOut > 2*74 {
			t.Errorf("%d pairs are held out of 400; want about 100", s.HeldOut)
		}
		held := map[string]bool{}
		for _, p := range rows(t, dir, "held-out/train.parquet") {
			held[p.PromptID] = true
		}
		mixed := rows(t, dir, "train/train.parquet")
		for _, p := range mixed {
			if held[p.PromptID] {
				t.Errorf("prompt %s is in both parts", p.PromptID)
			}
		}
		if len(mixed) != s.Actor+s.Judge {
			t.Errorf("%d mixed pairs; want %d", len(mixed), s.Actor+s.Judge)
		}
		if first == nil {
			first = s
		} else if first.Digest() != s.Digest() {
			t.Error("the number of shards changes the set")
		}
	}
}

// With a bound, this number of pairs of each role is drawn; another seed draws others.
func TestDraw(t *testing.T) {
	run := writeRun(t, 100, 1)
	o := both()
	o.MaxActorPairs, o.MaxJudgePairs = 30, 10
	s, err := trainset.Make(t.Context(), run, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Actor != 30 || s.Judge != 10 {
		t.Errorf("%d and %d pairs; want 30 and 10", s.Actor, s.Judge)
	}
	o.Seed = 1
	other, err := trainset.Make(t.Context(), run, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	if other.Digest() == s.Digest() {
		t.Error("another seed draws the same pairs")
	}
}

// The JSON layouts have the fields that their trainers read.
func TestLayouts(t *testing.T) {
	run := writeRun(t, 3, 1)
	for layout, fields := range map[trainset.Layout][]string{
		trainset.LLaMAFactory: {"conversations", "chosen", "rejected"},
		trainset.NeMoRL:       {"context", "completions"},
	} {
		o := both()
		o.Layout = layout
		dir := t.TempDir()
		if _, err := trainset.Make(t.Context(), run, dir, o); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, "train", "train.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(f)
		count := 0
		for lines.Scan() {
			count++
			var row map[string]any
			if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
				t.Fatal(err)
			}
			for _, field := range fields {
				if row[field] == nil {
					t.Errorf("%s: a row lacks %s: %s", layout, field, lines.Text())
				}
			}
		}
		if count != 6 {
			t.Errorf("%s: %d rows; want 6", layout, count)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Without pairs there is no set, and the message names the next command.
func TestNoPairs(t *testing.T) {
	_, err := trainset.Make(t.Context(), t.TempDir(), t.TempDir(), both())
	if err == nil || !strings.Contains(err.Error(), "coeval report") {
		t.Errorf("error is %v", err)
	}
	wrong := trainset.Options{Roles: []string{"meta"}, HeldOut: 0.6, Layout: "csv", MaxActorPairs: -1, MaxJudgePairs: -1}
	err = wrong.Validate()
	for _, key := range []string{"roles", "held_out", "layout", "max_actor_pairs", "max_judge_pairs"} {
		if err == nil || !strings.Contains(err.Error(), "set."+key) {
			t.Errorf("problems don't name %s: %v", key, err)
		}
	}
}
