// Package decide decides after each iteration of a loop whether to run another one, and which
// iteration was the best.
//
// Every rule has a threshold in the config, and prints its reason when it stops the loop. A decision
// follows from the figures of the iterations, the length of the baseline's answers and the thresholds.
package decide

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// An Estimate is a figure with its 95 % interval.
type Estimate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Agreement is the share of pairs on which a judge prefers the same side as people, and their number.
type Agreement struct {
	Share float64 `json:"share"`
	Pairs int     `json:"pairs"`
}

// An Iteration contains the figures of one iteration.
type Iteration struct {
	// Gain is the figure that the loop is after: the length-controlled win rate of the trained model
	// against the baseline, or another that the config chooses. Null without an arena.
	Gain *Estimate `json:"gain"`
	// Agreement of the iteration's judge with people; null without labels.
	Agreement *Agreement `json:"agreement"`
	// Chars is the mean length of the trained model's answers in the arena, in code points.
	Chars *float64 `json:"chars"`
	// Signs are the names of the signs of saturation that a comparison of the iterations saw.
	Signs []string `json:"signs,omitempty"`
	// USD and GPUHours were spent on this iteration; 0 where prices are not known.
	USD      float64 `json:"usd"`
	GPUHours float64 `json:"gpu_hours"`
}

// Rules are the thresholds. A zero switches a rule off, unless its comment states otherwise.
type Rules struct {
	// Iterations is the number after which the loop ends. Required.
	Iterations int `yaml:"iterations" json:"iterations"`
	// Patience is how many iterations may pass without a gain: one whose interval lies above the
	// best former value.
	Patience int `yaml:"patience" json:"patience"`
	// AgreementDrop is by how much agreement with people may lie below its peak, as a share, once the
	// difference exceeds two standard errors.
	AgreementDrop float64 `yaml:"agreement_drop" json:"agreement_drop"`
	// Signs is how many signs of saturation end the loop.
	Signs int `yaml:"signs" json:"signs"`
	// LengthGrowth is by which share answers may become longer than the baseline's.
	LengthGrowth float64 `yaml:"length_growth" json:"length_growth"`
	// MaxUSD and MaxGPUHours bound the costs of all iterations.
	MaxUSD      float64 `yaml:"max_usd"       json:"max_usd"`
	MaxGPUHours float64 `yaml:"max_gpu_hours" json:"max_gpu_hours"`
}

// DefaultRules are the rules of a loop whose config names none.
func DefaultRules() Rules {
	return Rules{Iterations: 4, Patience: 2, AgreementDrop: 0.03, Signs: 2, LengthGrowth: 0.3}
}

// Validate returns all problems joined.
func (r *Rules) Validate() error {
	var errs []error
	check := func(ok bool, key string, value any, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("decide.%s is %v; allowed is %s", key, value, allowed))
		}
	}
	check(r.Iterations >= 1 && r.Iterations <= 100, "iterations", r.Iterations, "1 to 100")
	check(r.Patience >= 0, "patience", r.Patience, "0 (off) or more")
	check(r.AgreementDrop >= 0 && r.AgreementDrop < 1, "agreement_drop", r.AgreementDrop, "0 (off) to below 1")
	check(r.Signs >= 0 && r.Signs <= 10, "signs", r.Signs, "0 (off) to 10")
	check(r.LengthGrowth >= 0 && r.LengthGrowth <= 10, "length_growth", r.LengthGrowth, "0 (off) to 10")
	check(r.MaxUSD >= 0, "max_usd", r.MaxUSD, "0 (off) or more")
	check(r.MaxGPUHours >= 0, "max_gpu_hours", r.MaxGPUHours, "0 (off) or more")
	return errors.Join(errs...)
}

// A Decision follows from the iterations so far.
type Decision struct {
	// Stop reports whether the loop ends, Reasons why, each in one sentence.
	Stop    bool     `json:"stop"`
	Reasons []string `json:"reasons,omitempty"`
	// Rules are the names of the rules that ended it, in the order of Reasons.
	Rules []string `json:"rules,omitempty"`
	// Best is the iteration, from 1, with the highest gain, and 0 where none has a gain.
	Best int `json:"best"`
}

// The names of the rules.
const (
	LimitRule     = "iterations"
	PatienceRule  = "patience"
	AgreementRule = "agreement_drop"
	SignsRule     = "signs"
	LengthRule    = "length_growth"
	MoneyRule     = "max_usd"
	HoursRule     = "max_gpu_hours"
)

// Of decides after the last of these iterations. BaselineChars is the mean length of the baseline's
// answers, 0 where it is not known.
func Of(iterations []Iteration, baselineChars float64, r Rules) Decision {
	d := Decision{Best: best(iterations)}
	if len(iterations) == 0 {
		return d
	}
	last := &iterations[len(iterations)-1]
	stop := func(rule, format string, args ...any) {
		d.Stop = true
		d.Rules, d.Reasons = append(d.Rules, rule), append(d.Reasons, fmt.Sprintf(format, args...))
	}
	if peak, drop, ok := agreementDrop(iterations, r.AgreementDrop); ok {
		stop(AgreementRule, "agreement with people fell by %.1f points from its peak in iteration %d, to %.1f %% (decide.agreement_drop: %v)",
			100*drop, peak, 100*last.Agreement.Share, r.AgreementDrop)
	}
	if r.Signs > 0 && len(last.Signs) >= r.Signs {
		stop(SignsRule, "%d signs of saturation: %s (decide.signs: %d)", len(last.Signs), strings.Join(last.Signs, "; "), r.Signs)
	}
	if r.LengthGrowth > 0 && last.Chars != nil && baselineChars > 0 && *last.Chars > (1+r.LengthGrowth)*baselineChars {
		stop(LengthRule, "answers have %.0f characters in the mean, %.0f %% more than the baseline's %.0f (decide.length_growth: %v)",
			*last.Chars, 100*(*last.Chars/baselineChars-1), baselineChars, r.LengthGrowth)
	}
	if since := sinceGain(iterations); r.Patience > 0 && since >= r.Patience {
		stop(PatienceRule, "%d iterations without a gain whose interval lies above the best former value (decide.patience: %d)", since, r.Patience)
	}
	usd, hours := spent(iterations)
	if r.MaxUSD > 0 && usd >= r.MaxUSD {
		stop(MoneyRule, "%.2f USD are spent (decide.max_usd: %v)", usd, r.MaxUSD)
	}
	if r.MaxGPUHours > 0 && hours >= r.MaxGPUHours {
		stop(HoursRule, "%.1f GPU hours are spent (decide.max_gpu_hours: %v)", hours, r.MaxGPUHours)
	}
	if len(iterations) >= r.Iterations {
		stop(LimitRule, "all %d iterations are done (decide.iterations)", r.Iterations)
	}
	return d
}

// best returns the iteration with the highest gain; of equal ones the first.
func best(iterations []Iteration) int {
	at := 0
	for i := range iterations {
		if g := iterations[i].Gain; g != nil && (at == 0 || g.Value > iterations[at-1].Gain.Value) {
			at = i + 1
		}
	}
	return at
}

// agreementDrop returns the peak and how far the last iteration lies below it, and whether that
// exceeds the threshold and two standard errors of the difference.
func agreementDrop(iterations []Iteration, threshold float64) (peak int, drop float64, ok bool) {
	last := iterations[len(iterations)-1].Agreement
	if threshold == 0 || last == nil {
		return 0, 0, false
	}
	for i := range iterations[:len(iterations)-1] {
		if a := iterations[i].Agreement; a != nil && (peak == 0 || a.Share > iterations[peak-1].Agreement.Share) {
			peak = i + 1
		}
	}
	if peak == 0 {
		return 0, 0, false
	}
	highest := iterations[peak-1].Agreement
	drop = highest.Share - last.Share
	return peak, drop, drop >= threshold && drop > 2*math.Hypot(standardError(highest), standardError(last))
}

// standardError returns the standard error of a share of independent pairs.
func standardError(a *Agreement) float64 {
	return math.Sqrt(a.Share * (1 - a.Share) / float64(max(a.Pairs, 1)))
}

// sinceGain counts the iterations after the last one that gained. The first one with a figure gains
// if its interval lies above 1/2, which is the baseline itself.
func sinceGain(iterations []Iteration) int {
	since, highest, found := 0, 0.5, false
	for i := range iterations {
		g := iterations[i].Gain
		if g == nil {
			continue
		}
		found = true
		if g.Low > highest {
			since = 0
		} else {
			since++
		}
		highest = math.Max(highest, g.Value)
	}
	if !found {
		return 0
	}
	return since
}

func spent(iterations []Iteration) (usd, hours float64) {
	for i := range iterations {
		usd += iterations[i].USD
		hours += iterations[i].GPUHours
	}
	return usd, hours
}
