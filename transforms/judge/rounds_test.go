package judge_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/judge"
	"coeval/transforms/stage"
)

// span is the replicates of a call, from the first to before the last.
type span struct{ From, To int }

// ranges keeps the spans of the calls.
type ranges struct {
	answers
	asked *[]span
}

func (r ranges) Do(ctx context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	for _, c := range calls {
		*r.asked = append(*r.asked, span{c.First, c.First + c.N})
	}
	return r.answers.Do(ctx, calls)
}

// The read of a response has a mean of 3 and a variance of 1, so that scores of at most 1 and of 5 are distant at 2
// standard deviations. A round follows while there is none among those before it.
func TestRounds(t *testing.T) {
	const first, most = 4, 15
	fails := func(replicate int) bool { return replicate == 2 || replicate == 7 }
	for _, tt := range []struct {
		name    string
		distant int // the replicate with a distant score, or none
		score   string
		asked   []span
		stop    schemas.Stop
	}{
		{"in the first round", 3, "5", []span{{0, 4}}, schemas.StopDistant},
		{"just distant", 1, "1", []span{{0, 4}}, schemas.StopDistant},
		{"in the second", 4, "5", []span{{0, 4}, {4, 10}}, schemas.StopDistant},
		{"in the last", 14, "0", []span{{0, 4}, {4, 10}, {10, 15}}, schemas.StopDistant},
		{"nowhere", -1, "", []span{{0, 4}, {4, 10}, {10, 15}}, schemas.StopBound},
		{"a thousandth too near", 3, "4.999", []span{{0, 4}, {4, 10}, {10, 15}}, schemas.StopBound},
		{"of a call that failed", 2, "5", []span{{0, 4}, {4, 10}, {10, 15}}, schemas.StopBound},
		{"unparsed", 3, "none", []span{{0, 4}, {4, 10}, {10, 15}}, schemas.StopBound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := dossier("good", "bad")
			d.Responses[1].Score = schemas.Score{N: 1, Sum: 3000, Squares: 3000*3000 + 1000*1000, Scored: true}
			d.ContestedID = d.Responses[1].ID
			var asked []span
			run(t, judge.Options{Role: role, N: first, Reads: 1, Rounds: &judge.Rounds{Max: most, Distance: 2}}, ranges{func(_ string, replicate int) schemas.Generation {
				switch {
				case fails(replicate):
					return schemas.Generation{Code: "timeout"}
				case replicate == tt.distant:
					return says("Far.\n\nScore: " + tt.score)
				}
				return says(fmt.Sprintf("Text %d.\n\nScore: 3.5", replicate))
			}, &asked}, &d)
			if diff := cmp.Diff(tt.asked, asked); diff != "" {
				t.Error(diff)
			}
			n := tt.asked[len(tt.asked)-1].To
			if diff := cmp.Diff(&schemas.Judging{Stopped: tt.stop, Asked: n}, d.Judging); diff != "" {
				t.Error(diff)
			}
			var want, got []int
			for i := range n {
				if !fails(i) {
					want = append(want, i)
				}
			}
			for _, j := range d.Responses[1].Judgments {
				got = append(got, j.Replicate)
				if id := schemas.JudgmentID(d.ContestedID, role.Identity(), j.Replicate, j.Text); id != j.ID || j.Distinct != (j.Unparsed == "") {
					t.Errorf("judgment %+v, want ID %s", j, id)
				}
			}
			var failed []int
			for _, f := range d.Failures {
				failed = append(failed, f.Replicate)
			}
			if !slices.Equal(want, got) || len(failed)+len(got) != n || len(d.Responses[0].Judgments) != 0 {
				t.Errorf("replicates %v have judgments and %v failures, want %v", got, failed, want)
			}
		})
	}
}

// Later rounds have the key and the messages of the first: the journal of a run that asks all at once has their answers.
func TestRoundsShareTheirKey(t *testing.T) {
	keys := map[string]bool{}
	for _, o := range []judge.Options{
		{Role: role, N: 30, Reads: 1}, {Role: role, N: 2, Reads: 1, Rounds: &judge.Rounds{Max: 30, Distance: 9}},
	} {
		d := dossier("good")
		d.Responses[0].Score = schemas.Score{N: 1, Sum: 3000, Squares: 3000*3000 + 1}
		d.ContestedID = d.Responses[0].ID
		var asked []stage.Call
		run(t, o, watched{answers(func(string, int) schemas.Generation { return says("Score: 3") }), &asked}, &d)
		for i := range asked {
			keys[asked[i].Key()] = true
		}
		if len(d.Responses[0].Judgments) != 30 {
			t.Errorf("%+v asks for %d judgments, want 30", o, len(d.Responses[0].Judgments))
		}
	}
	if len(keys) != 1 {
		t.Errorf("%d keys, want 1", len(keys))
	}
}

// A calibrated mean leaves the rule as it is: the distance is on the judge's scale.
func TestRoundsIgnoreTheCalibration(t *testing.T) {
	read := schemas.Score{N: 2, Sum: 6000, Squares: 2 * (3000*3000 + 1000*1000)}
	mapped := read
	mapped.Sum, mapped.Shift = 9000, 3000
	for _, score := range []int{0, 1000, 1001, 4999, 5000} {
		judgments := []schemas.Judgment{{Score: score}}
		_, want := judge.Rounds{Max: 5, Distance: 2}.Next(1, judgments, read)
		if _, got := (judge.Rounds{Max: 5, Distance: 2}).Next(1, judgments, mapped); got != want || (want == schemas.StopDistant) != (score <= 1000 || score == 5000) {
			t.Errorf("score %d: stop %q, and %q with a calibration", score, want, got)
		}
	}
}

func TestRoundsOptions(t *testing.T) {
	for want, o := range map[string]judge.Options{
		"rounds are set without reads":          {Role: role, Rounds: &judge.Rounds{}},
		"rounds.max is 10; allowed is n, 11,":   {Role: role, Reads: 1, Rounds: &judge.Rounds{Max: 10}},
		"rounds.max is 257":                     {Role: role, Reads: 1, Rounds: &judge.Rounds{Max: 257}},
		"rounds.distance is -1; allowed is":     {Role: role, Reads: 1, Rounds: &judge.Rounds{Distance: -1}},
		"rounds.distance is 10.5; allowed is":   {Role: role, Reads: 1, Rounds: &judge.Rounds{Distance: 10.5}},
		"rounds.distance is 0.0004; allowed":    {Role: role, Reads: 1, Rounds: &judge.Rounds{Distance: 0.0004}},
		"rounds.distance is 1.8001; allowed is": {Role: role, Reads: 1, Rounds: &judge.Rounds{Distance: 1.8001}},
	} {
		if _, err := judge.Spec(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if n := (judge.Options{Reads: 1, Rounds: &judge.Rounds{}}).MaxN(); n != judge.DefaultMaxJudgments {
		t.Errorf("at most %d judgments, want %d", n, judge.DefaultMaxJudgments)
	}
	reads, err := judge.Options{Role: role, Reads: 2, Rounds: &judge.Rounds{}}.ReadOptions()
	if err != nil || reads.Rounds != nil || reads.N != 2 {
		t.Errorf("reads are asked with %+v, %v", reads, err)
	}
}
