// Package pairs selects from a finding the pair that trains the actor and the pair that trains its
// judge.
//
// [Actor] selects two responses by their mean scores, with length control. [Judge] selects two judgments of the
// contested response by Elo ratings from the meta-judge's verdicts. Both are pure functions of numbers and IDs;
// [ActorPairs], [PositionCounts] and [JudgePairs] are the transforms around them. [BalancePairs] drops surplus
// judge pairs. For each score, it can bound the share of pairs whose chosen judgment has that score. It can
// also bound the difference between two counts: the pairs whose chosen judgment scores higher than the rejected
// one, and those whose chosen judgment scores lower.
//
// The package promises exactly one selection of each finding for each requested role. The selection is a pair,
// or the first of schemas.DropReasons that applies. If too few calls succeeded to decide, it is the code of the
// failed calls. Scores, tiers and margins are compared as integers, and ties break by ID, so no selection
// depends on the order of a list. The ratings are floats, rounded to 1e-9. Between architectures they may
// differ by up to 1e-9.
//
// Metrics, namespace "pairs", counters of findings: actor_paired, actor_failed, actor_dropped_REASON for
// each reason of the actor, and the same with judge.
package pairs

import (
	"context"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"coeval/schemas"
	_ "coeval/transforms/coders" // records cross shuffles
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[actorPairsFn]())
	beam.RegisterDoFn(reflect.TypeFor[judgePairsFn]())
	register.Function2x0(countPositionsFn)
	register.Function2x1(addPositions)
	register.Emitter1[schemas.PositionCounts]()
}

// ActorPairs adds the actor's selection to every record with a finding.
//
// It takes a PCollection<schemas.Record> and returns one of the same length, in which every
// record with a finding has Actor set; a bad line stays as it is. It returns an error if o is
// invalid.
func ActorPairs(s beam.Scope, records beam.PCollection, o ActorOptions) (beam.PCollection, error) {
	if err := o.Validate(); err != nil {
		return beam.PCollection{}, err
	}
	s = s.Scope("pairs.ActorPairs")
	return beam.ParDo(s, &actorPairsFn{Options: o}, records), nil
}

// PositionCounts counts the comparisons of the run that the first-shown and the second-shown
// judgment won.
//
// It takes a PCollection<schemas.Record> and returns a PCollection<schemas.PositionCounts> of
// one element, or of none if no comparison has a winner.
func PositionCounts(s beam.Scope, records beam.PCollection) beam.PCollection {
	s = s.Scope("pairs.PositionCounts")
	return beam.Combine(s, addPositions, beam.ParDo(s, countPositionsFn, records))
}

// JudgePairs adds the judge's selection to every record with a finding.
//
// It takes a PCollection<schemas.Record> and, as a side input, a
// PCollection<schemas.PositionCounts> of any length whose sum gives the run's position
// weights. It returns a PCollection<schemas.Record> of the same length, in which every record
// with a finding has Judge set; a bad line stays as it is. It returns an error if o is invalid.
func JudgePairs(s beam.Scope, records, counts beam.PCollection, o JudgeOptions) (beam.PCollection, error) {
	if err := o.Validate(); err != nil {
		return beam.PCollection{}, err
	}
	s = s.Scope("pairs.JudgePairs")
	return beam.ParDo(s, &judgePairsFn{Options: o}, records, beam.SideInput{Input: counts}), nil
}

// outcomeCounters are the counters of outcomes by name.
var outcomeCounters = newOutcomeCounters()

func newOutcomeCounters() map[string]beam.Counter {
	counters := map[string]beam.Counter{}
	for role, reasons := range schemas.DropReasons {
		names := []string{role + "_" + string(schemas.Paired), role + "_" + string(schemas.Failed)}
		for _, reason := range reasons {
			names = append(names, role+"_"+string(schemas.Dropped)+"_"+reason)
		}
		for _, name := range names {
			counters[name] = beam.NewCounter("pairs", name)
		}
	}
	return counters
}

func count(ctx context.Context, role string, c schemas.Selection) {
	name := role + "_" + string(c.Outcome)
	if c.Outcome == schemas.Dropped {
		name += "_" + c.Reason
	}
	outcomeCounters[name].Inc(ctx, 1)
}

type actorPairsFn struct{ Options ActorOptions }

func (f *actorPairsFn) ProcessElement(ctx context.Context, r schemas.Record) schemas.Record {
	if r.Finding == nil {
		return r
	}
	selection := Actor(r.Finding, f.Options)
	count(ctx, schemas.RoleActor, selection)
	r.Actor = &selection
	return r
}

func countPositionsFn(r schemas.Record, emit func(schemas.PositionCounts)) {
	if r.Finding == nil {
		return
	}
	if c := CountPositions(r.Finding); c != (schemas.PositionCounts{}) {
		emit(c)
	}
}

func addPositions(a, b schemas.PositionCounts) schemas.PositionCounts {
	return schemas.PositionCounts{First: a.First + b.First, Second: a.Second + b.Second}
}

type judgePairsFn struct{ Options JudgeOptions }

func (f *judgePairsFn) ProcessElement(ctx context.Context, r schemas.Record, counts []schemas.PositionCounts) schemas.Record {
	if r.Finding == nil {
		return r
	}
	var run schemas.PositionCounts
	for _, c := range counts {
		run = addPositions(run, c)
	}
	selection := Judge(r.Finding, Weights(run), f.Options)
	if !f.Options.Balance.Enabled() { // else BalancePairs counts
		count(ctx, schemas.RoleJudge, selection)
	}
	r.Judge = &selection
	return r
}

// undecided returns the selection of a finding without a pair: failed, if calls of one of the
// stages that feed the decision failed for good, else dropped for the reason. Stages are in
// the order in which they run. A failed selection carries the code of the most calls, of equals
// that of the earliest stage, then the first in the alphabet.
func undecided(f *schemas.Finding, reason string, stages ...string) schemas.Selection {
	var most schemas.FailedCalls
	for _, stage := range stages {
		for _, failed := range f.Failed {
			if failed.Stage != stage || failed.Calls < most.Calls {
				continue
			}
			if failed.Calls > most.Calls || failed.Stage == most.Stage && failed.Code < most.Code {
				most = failed
			}
		}
	}
	if most.Calls > 0 {
		return schemas.Selection{Outcome: schemas.Failed, Reason: most.Code}
	}
	return schemas.Selection{Outcome: schemas.Dropped, Reason: reason}
}
