package outcomes

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/stage"
)

// A series is equal calls, one each second, of prompts that take turns.
type series struct {
	n, prompts int
	code       string // empty for answers
}

func TestRecordFailure(t *testing.T) {
	t.Parallel()
	const patience = time.Hour // longer than Grace
	for _, c := range []struct {
		name  string
		calls []series
		want  string // in the error of the last call, empty for none
		early bool   // the last call has to be sent again
	}{
		{name: "the first ten refused", calls: []series{{MaxFirst, 2, fault.CodeBadRequest}}, want: "the first 10 calls of the judge all failed with bad_request. The message of http://gpu: no top_k."},
		{name: "nine refused", calls: []series{{MaxFirst - 1, 2, fault.CodeBadRequest}}},
		{name: "of one prompt", calls: []series{{maxInRow + 1, 1, fault.CodeBadRequest}}},
		{name: "for several reasons", calls: []series{{1, 2, fault.CodeBadRequest}, {maxInRow - 1, 20, fault.CodeTooLarge}}},
		{name: "in a row after another reason", calls: []series{{1, 2, fault.CodeTooLarge}, {maxInRow, 20, fault.CodeBadRequest}}, want: "the last 100 calls"},
		{name: "an answer between them", calls: []series{{5, 2, fault.CodeBadRequest}, {1, 1, ""}, {maxInRow - 1, 20, fault.CodeBadRequest}}},
		{name: "in a row after an answer", calls: []series{{1, 1, ""}, {maxInRow, 20, fault.CodeBadRequest}}, want: "the last 100 calls"},
		{name: "in a row, of too few prompts", calls: []series{{1, 1, ""}, {maxInRow, MaxFirst - 1, fault.CodeBadRequest}}},
		{name: "in a row, for the prompts' own texts", calls: []series{{1, 1, ""}, {2 * maxInRow, 200, fault.CodeContextLength}}},
		// One call a second: the tenth is 9 s after the first, and the 121st 120 s after it.
		{name: "servers that restart", calls: []series{{MaxFirst, 2, fault.CodeServerError}}, early: true},
		{name: "servers that stay broken", calls: []series{{121, 2, fault.CodeServerError}}, want: "the first 10 calls of the judge all failed with server_error, for 2m0s."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o, role, now := New(patience), &stage.Role{Name: "judge", Model: "m"}, time.Unix(0, 0)
			var early bool
			var err error
			for _, calls := range c.calls {
				for i := range calls.n {
					if err != nil {
						t.Fatalf("the run stopped too early: %v", err)
					}
					if calls.code == "" {
						o.RecordAnswer(role)
						continue
					}
					f := Failure{Role: role, PromptID: fmt.Sprint(i % calls.prompts), Server: "http://gpu", Fault: &fault.Fault{Code: calls.code, Message: "no top_k"}}
					early, err = o.RecordFailure(&f, now)
					now = now.Add(time.Second)
				}
			}
			if early != c.early || (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("early %v, error %v; want %v, an error with %q", early, err, c.early, c.want)
			}
		})
	}
}

// Failures and answers of one role say nothing about another, even of the same name with another model.
func TestRolesAreApart(t *testing.T) {
	t.Parallel()
	o := New(time.Hour)
	judge, other := &stage.Role{Name: "judge", Model: "m"}, &stage.Role{Name: "judge", Model: "n"}
	o.RecordAnswer(other)
	if o.HasAnswer(judge) || !o.HasAnswer(other) {
		t.Errorf("answered: %v and %v, want false and true", o.HasAnswer(judge), o.HasAnswer(other))
	}
	for i := range MaxFirst {
		f := Failure{Role: judge, PromptID: fmt.Sprint(i), Fault: &fault.Fault{Code: fault.CodeBadRequest}}
		if _, err := o.RecordFailure(&f, time.Unix(0, 0)); (err != nil) != (i == MaxFirst-1) {
			t.Fatalf("after %d failures: %v", i+1, err)
		}
	}
}

// A short patience shortens the time that servers get to recover.
func TestPatienceBoundsGrace(t *testing.T) {
	t.Parallel()
	o, role := New(30*time.Second), &stage.Role{Name: "judge"}
	for i := range 60 { // a second apart: after 30 s the failure is final
		f := Failure{Role: role, PromptID: fmt.Sprint(i), Fault: &fault.Fault{Code: fault.CodeServerError}}
		early, err := o.RecordFailure(&f, time.Unix(int64(i), 0))
		if wantEarly := i >= MaxFirst-1 && i < 30; early != wantEarly || (err != nil) != (i >= 30) {
			t.Fatalf("after %d s: early %v, error %v", i, early, err)
		}
	}
}
