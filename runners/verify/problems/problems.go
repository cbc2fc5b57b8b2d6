// Package problems lists the faults of a run, as sentences that name the place, the value and the right
// value.
package problems

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Max is the number of problems that a list keeps.
const Max = 100

// A List has the first problems in the order in which they were found.
type List struct {
	// Listed has at most Max.
	Listed []string
	// More counts the problems that are not in Listed.
	More int64
}

// Add adds a problem.
func (p *List) Add(format string, args ...any) {
	if len(p.Listed) < Max {
		p.Listed = append(p.Listed, fmt.Sprintf(format, args...))
		return
	}
	p.More++
}

// Join adds the problems of m.
func (p *List) Join(m *List) { p.JoinFirst(m, len(m.Listed)) }

// JoinFirst takes the first problems of m and counts the others, so that one prompt can't hide the rest.
func (p *List) JoinFirst(m *List, first int) {
	for i, problem := range m.Listed {
		if i < first && len(p.Listed) < Max {
			p.Listed = append(p.Listed, problem)
		} else {
			p.More++
		}
	}
	p.More += m.More
}

// A Location is the place of a problem: a row of a file, or a prompt in it.
type Location struct {
	list       *List
	file, what string
}

// At returns a location in a file. Problems there are added to the list.
func (p *List) At(file, what string) Location { return Location{p, file, what} }

// Add adds a problem at the location.
func (s Location) Add(format string, args ...any) {
	s.list.Add("%s: %s: %s", s.file, s.what, fmt.Sprintf(format, args...))
}

// ID reports an ID that is not the hash of the row's content.
func (s Location) ID(columns, got, want string) {
	if got != want {
		s.Add("%s give the ID %s: the row's ID or one of them was changed", columns, want)
	}
}

// Same reports a value of a column that differs from the right one.
func Same[V comparable](s Location, column string, got, want V) {
	if got != want {
		s.Add("%s is %s, should be %s", column, Show(got), Show(want))
	}
}

// SameNullable is Same for values that may be null.
func SameNullable[V comparable](s Location, column string, got, want *V) {
	if got == nil || want == nil {
		if got != want {
			s.Add("%s is %s, should be %s", column, ShowNullable(got), ShowNullable(want))
		}
		return
	}
	Same(s, column, *got, *want)
}

// SameText is same for long texts: it shows the first difference.
func SameText(s Location, column, got, want string) {
	if got == want {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	for at > 0 && (at < len(got) && !utf8.RuneStart(got[at]) || at < len(want) && !utf8.RuneStart(want[at])) {
		at--
	}
	character := utf8.RuneCountInString(got[:at])
	s.Add("%s is, from character %d on, %s, should be %s", column, character+1, Show(got[at:]), Show(want[at:]))
}

// ratingGrain is the step that ratings are rounded to. Half a step more allows for the rounding of the
// difference.
const ratingGrain = 1e-9

// SameRating is SameNullable for ratings, which another architecture rounds otherwise. It reports
// whether both exist and agree.
func SameRating(s Location, column string, got, want *float64) bool {
	if got != nil && want != nil && math.Abs(*got-*want) < 1.5*ratingGrain {
		return true
	}
	SameNullable(s, column, got, want)
	return false
}

// SameNumber is SameNullable for quotients, which may differ in the last bits.
func SameNumber(s Location, column string, got, want *float64) {
	const roundings = 1e-12
	if got == nil || want == nil || !(math.Abs(*got-*want) <= roundings*max(1, math.Abs(*want))) {
		SameNullable(s, column, got, want)
	}
}

// ShowNullable is Show for a value that may be null.
func ShowNullable[V comparable](v *V) string {
	if v == nil {
		return "null"
	}
	return Show(*v)
}

// maxShown is the number of code points of a text that a problem shows.
const maxShown = 40

// Show returns a value as a problem shows it: a text in quotes, shortened to 40 code points.
func Show[V comparable](v V) string {
	switch v := any(v).(type) {
	case string:
		if r := []rune(v[:min(len(v), 4*(maxShown+1))]); len(r) > maxShown {
			return strconv.Quote(string(r[:maxShown])) + "…"
		}
		return strconv.Quote(v)
	default:
		return fmt.Sprint(v)
	}
}
