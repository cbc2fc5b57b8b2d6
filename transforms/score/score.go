// Package score computes the mean and the variance of a response's scores. It also finds the contested
// response: the actor's response whose scores vary most (see [Dossier]).
//
// For a response k with n parsed scores s_1 … s_n
//
//	S_k = Σ s_i / n
//	V_k = (n·Σ s_i² − (Σ s_i)²) / n²
//
// V_k is the population variance. [SumReads] has the formulas for reads, which are distributions. The
// arithmetic is exact: scores are integer thousandths, sums are integers, and variances are compared as
// fractions of integers. So equal variances tie. A judgment without a score does not enter the sums: it
// does not count as 0.
//
// A [Calibration] maps S_k to the scale of people, in thousandths. It maps the mean and not each score, since
// it was fitted to means. The map never decreases, so it never reverses the order of two responses. V_k and the
// contested response are computed from the uncalibrated scores. So a new calibration changes mean scores and
// actor pairs, but no judge pair, and needs no requests.
package score

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/bits"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"coeval/schemas"
	_ "coeval/transforms/coders" // dossiers cross shuffles
	"coeval/transforms/stage"
)

const stageName = "score"

func init() {
	stage.Register(stageName, decodeStage)
	beam.RegisterDoFn(reflect.TypeFor[scoreFn]())
	beam.RegisterType(reflect.TypeFor[Options]())
}

// Options decide when a response is scored.
type Options struct {
	// MinJudgments is how many parsed judgments a response needs, 1 to 256. A larger number omits
	// responses with an uncertain mean. With 1, the variance of one score is 0. Zero means 2.
	MinJudgments int `json:"min_judgments"`
	// MinDistinct is the least number of distinct parsed judgments of the contested response, 0 to 256:
	// the number that the meta-judge needs. A response with fewer is contested only where none has
	// enough. Zero means that any number will do.
	MinDistinct int `json:"min_distinct,omitempty"`
	// Calibration maps S to the scale of people. Nil leaves it on the judge's.
	Calibration *Calibration `json:"calibration,omitempty"`
	// Reads scores responses by their reads; one is enough. MinJudgments and MinDistinct have no effect then:
	// judgments follow. Zero means that judgments decide.
	Reads bool `json:"reads,omitempty"`
}

func (o Options) withDefaults() Options {
	if o.MinJudgments == 0 {
		o.MinJudgments = 2
	}
	return o
}

func (o Options) validate() error {
	if o.MinJudgments < 1 || o.MinJudgments > 256 {
		return fmt.Errorf("score: min_judgments is %d; allowed is 1 to 256", o.MinJudgments)
	}
	if o.MinDistinct < 0 || o.MinDistinct > 256 {
		return fmt.Errorf("score: min_distinct is %d; allowed is 0 to 256", o.MinDistinct)
	}
	if o.Calibration != nil {
		if err := o.Calibration.Validate(); err != nil {
			return fmt.Errorf("score: calibration: %w", err)
		}
	}
	return nil
}

// Spec returns the stage with its options, for a chain. It returns an error if o is invalid.
func Spec(o Options) (stage.Spec, error) {
	if err := o.withDefaults().validate(); err != nil {
		return stage.Spec{}, err
	}
	return stage.NewSpec(stageName, o)
}

// Stage returns the stage that calls [Dossier]. It makes no calls. It returns an error if o is
// invalid.
func Stage(o Options) (stage.Stage, error) {
	if err := o.withDefaults().validate(); err != nil {
		return nil, err
	}
	return func(_ context.Context, _ stage.Caller, d *schemas.Dossier) error {
		Dossier(d, o)
		return nil
	}, nil
}

func decodeStage(options json.RawMessage) (stage.Stage, error) {
	var o Options
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, fmt.Errorf("score: options: %w", err)
	}
	return Stage(o)
}

// Score gives every response its sums and every dossier its contested response.
//
// It takes a PCollection<schemas.Dossier> and returns one of the same length, as [Dossier]
// leaves them. It returns an error if o is invalid.
func Score(s beam.Scope, dossiers beam.PCollection, o Options) (beam.PCollection, error) {
	if err := o.withDefaults().validate(); err != nil {
		return beam.PCollection{}, err
	}
	s = s.Scope("score.Score")
	return beam.ParDo(s, &scoreFn{Options: o}, dossiers), nil
}

type scoreFn struct{ Options Options }

func (f *scoreFn) ProcessElement(d schemas.Dossier) schemas.Dossier {
	// Beam forbids changing an input.
	d.Responses = append([]schemas.Response(nil), d.Responses...)
	Dossier(&d, f.Options)
	return d
}

// Dossier fills in the score of every response, and names the contested response. Of the actor's
// scored responses with a variance above 0 that is the one with the highest variance among
// those with o.MinDistinct distinct parsed judgments, or among all if none has as many. Of
// equals it is the one with the lowest ID.
func Dossier(d *schemas.Dossier, o Options) {
	o = o.withDefaults()
	d.ContestedID = ""
	var most schemas.Score
	enough := false
	for i := range d.Responses {
		r := &d.Responses[i]
		if o.Reads {
			r.Score = SumReads(r.Reads)
			r.Score.Scored = r.Score.N > 0
		} else {
			r.Score = Sum(r.Judgments)
			r.Score.Scored = r.Score.N >= o.MinJudgments
		}
		r.Score = o.Calibration.Apply(r.Score)
		if !r.Score.Scored || spread(r.Score) == 0 || !r.IsActors() {
			continue
		}
		hasEnough := o.Reads || distinct(r.Judgments) >= o.MinDistinct
		c := compareVariance(r.Score, most)
		switch {
		case d.ContestedID == "", hasEnough && !enough:
		case hasEnough != enough:
			continue
		case c < 0, c == 0 && r.ID > d.ContestedID:
			continue
		}
		d.ContestedID, most, enough = r.ID, r.Score, hasEnough
	}
}

func distinct(judgments []schemas.Judgment) int {
	n := 0
	for i := range judgments {
		if judgments[i].Distinct {
			n++
		}
	}
	return n
}

// Sum returns the sums of the parsed scores.
func Sum(judgments []schemas.Judgment) schemas.Score {
	var s schemas.Score
	for i := range judgments {
		if j := &judgments[i]; j.Unparsed == "" {
			s.N++
			s.Sum += int64(j.Score)
			s.Squares += int64(j.Score) * int64(j.Score)
		}
	}
	return s
}

// SumReads returns the sums of the parsed reads, in thousandths. With m the rounded value of a read and v
// its variance, in squared thousandths, Sum is Σ m and Squares Σ (m² + v), so that
//
//	V = Σ v / n + (n·Σ m² − (Σ m)²) / n²
//
// is the variance of the mixture of the n distributions. It is not below 0.
func SumReads(reads []schemas.Read) schemas.Score {
	const perThousandth = schemas.ReadUnit / 1000
	var s schemas.Score
	for i := range reads {
		if r := &reads[i]; r.Unparsed == "" {
			m := (r.ValueMicros + perThousandth/2) / perThousandth
			s.N++
			s.Sum += m
			s.Squares += m*m + r.VarianceMicros // a millionth of a squared point is a squared thousandth
		}
	}
	return s
}

// spread returns n²·V in squared thousandths. With scores of at most 100,000 and n of at most
// 256 each product is at most 256·256·1e10 = 6.6e14.
func spread(s schemas.Score) int64 {
	return int64(s.N)*s.Squares - s.Written()*s.Written()
}

// compareVariance returns the sign of V_a − V_b, from spread_a·n_b² and spread_b·n_a². The
// products have up to 128 bits: 6.6e14·256² = 4.3e19.
func compareVariance(a, b schemas.Score) int {
	an, bn := uint64(a.N), uint64(b.N)
	aHigh, aLow := bits.Mul64(uint64(spread(a)), bn*bn)
	bHigh, bLow := bits.Mul64(uint64(spread(b)), an*an)
	return cmp.Or(cmp.Compare(aHigh, bHigh), cmp.Compare(aLow, bLow))
}
