package verify

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// problems are the first problems in the order in which they were found.
type problems struct {
	// list has at most maxProblems.
	list []string
	// more counts the problems that are not in list.
	more int64
}

func (p *problems) add(format string, args ...any) {
	if len(p.list) < maxProblems {
		p.list = append(p.list, fmt.Sprintf(format, args...))
		return
	}
	p.more++
}

func (p *problems) join(m *problems) { p.joinFirst(m, len(m.list)) }

// joinFirst takes the first problems of m and counts the others, so that one prompt can't hide the rest.
func (p *problems) joinFirst(m *problems, first int) {
	for i, problem := range m.list {
		if i < first && len(p.list) < maxProblems {
			p.list = append(p.list, problem)
		} else {
			p.more++
		}
	}
	p.more += m.more
}

// A location is the place of a problem: a row of a file, or a prompt in it.
type location struct {
	problems *problems
	file     string
	what     string
}

func (s location) add(format string, args ...any) {
	s.problems.add("%s: %s: %s", s.file, s.what, fmt.Sprintf(format, args...))
}

// id reports an ID that is not the hash of the row's content.
func (s location) id(columns, got, want string) {
	if got != want {
		s.add("%s give the ID %s: the row's ID or one of them was changed", columns, want)
	}
}

func same[V comparable](s location, column string, got, want V) {
	if got != want {
		s.add("%s is %s, should be %s", column, show(got), show(want))
	}
}

func sameNullable[V comparable](s location, column string, got, want *V) {
	if got == nil || want == nil {
		if got != want {
			s.add("%s is %s, should be %s", column, showNullable(got), showNullable(want))
		}
		return
	}
	same(s, column, *got, *want)
}

// sameText is same for long texts: it shows the first difference.
func sameText(s location, column, got, want string) {
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
	s.add("%s is, from character %d on, %s, should be %s", column, character+1, show(got[at:]), show(want[at:]))
}

// ratingGrain is the step that ratings are rounded to. Half a step more allows for the rounding of the
// difference.
const ratingGrain = 1e-9

// sameRating is sameNullable for ratings, which another architecture rounds otherwise. It reports
// whether both exist and agree.
func sameRating(s location, column string, got, want *float64) bool {
	if got != nil && want != nil && math.Abs(*got-*want) < 1.5*ratingGrain {
		return true
	}
	sameNullable(s, column, got, want)
	return false
}

// sameNumber is sameNullable for quotients, which may differ in the last bits.
func sameNumber(s location, column string, got, want *float64) {
	const roundings = 1e-12
	if got == nil || want == nil || !(math.Abs(*got-*want) <= roundings*max(1, math.Abs(*want))) {
		sameNullable(s, column, got, want)
	}
}

func showNullable[V comparable](v *V) string {
	if v == nil {
		return "null"
	}
	return show(*v)
}

// maxShown is the number of code points of a text that a problem shows.
const maxShown = 40

func show[V comparable](v V) string {
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
