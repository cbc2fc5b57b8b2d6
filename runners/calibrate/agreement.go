package calibrate

import (
	"math"

	"coeval/runners/calibrate/isotonic"
)

// lengthSlices are the bounds of the differences in length, in characters.
var lengthSlices = []struct {
	name  string
	below int
}{
	{"the better one is 500 or more characters shorter", -499},
	{"100 to 499 shorter", -99},
	{"within 99", 100},
	{"100 to 499 longer", 500},
	{"500 or more longer", math.MaxInt},
}

// sum adds up agreement.
type sum struct {
	pairs int
	agree float64
}

func (s *sum) add(p *Pair) {
	s.pairs++
	s.agree += *p.Agree
}

func (s *sum) slice(name string) Slice {
	return Slice{Name: name, Pairs: s.pairs, Agree: s.mean()}
}

func (s *sum) mean() *float64 {
	if s.pairs == 0 {
		return nil
	}
	mean := s.agree / float64(s.pairs)
	return &mean
}

// agreement computes the counts; the bootstrap computes their intervals.
func (f *Figures) agreement(usable []Pair) *Agreement {
	a := &Agreement{Pairs: len(usable), Unscored: len(f.Pairs) - len(usable)}
	byLength := make([]sum, len(lengthSlices))
	var first, second, people, judge sum
	for i := range usable {
		p := &usable[i]
		if p.Judge == Tie {
			a.JudgeTies++
		} else {
			judge.pairs++
			judge.agree += (p.Judge.sign() + 1) / 2
		}
		if p.People == Tie {
			a.PeopleTies++
			if p.Judge == Tie {
				a.BothTie++
			}
			continue
		}
		if p.Judge != Tie {
			a.Decided++
		}
		people.pairs++
		people.agree += (p.People.sign() + 1) / 2
		longer := f.Responses[p.First].Chars - f.Responses[p.Second].Chars
		if p.People == Second {
			longer = -longer
			second.add(p)
		} else {
			first.add(p)
		}
		k := 0
		for longer >= lengthSlices[k].below {
			k++
		}
		byLength[k].add(p)
	}
	for i := range byLength {
		a.ByLength = append(a.ByLength, byLength[i].slice(lengthSlices[i].name))
	}
	a.ByPosition = []Slice{first.slice("the better one stands first in the file"), second.slice("the better one stands second")}
	a.PeopleFirst, a.JudgeFirst = people.mean(), judge.mean()
	return a
}

// bins is the number of bins in Reliability.
const bins = 10

func (f *Figures) reliability(usable []Pair) *Reliability {
	r := &Reliability{Pairs: len(usable)}
	all := make([]Bin, bins)
	for i := range usable {
		p := &usable[i]
		halves, of := wins(&f.Responses[p.First], &f.Responses[p.Second])
		observed := 0.5
		if 2*halves != of && p.People != Tie {
			observed = 0
			if (2*halves > of) == (p.People == First) {
				observed = 1
			}
		}
		halves = max(halves, of-halves)
		b := &all[min((2*halves-of)*bins/of, bins-1)]
		b.Pairs++
		b.Predicted += float64(halves) / float64(of)
		b.Observed += observed
	}
	for i := range all {
		b := &all[i]
		if b.Pairs == 0 {
			continue
		}
		n := float64(b.Pairs)
		b.From, b.To = float64(bins+i)/(2*bins), float64(bins+i+1)/(2*bins)
		b.Predicted, b.Observed = b.Predicted/n, b.Observed/n
		r.Error += n / float64(len(usable)) * math.Abs(b.Observed-b.Predicted)
		r.Bins = append(r.Bins, *b)
	}
	return r
}

// wins compares all pairs of a judgment of a and one of b. It returns the half wins of a, and their
// largest possible number.
func wins(a, b *Response) (halves, of int) {
	for _, x := range a.Scores {
		for _, y := range b.Scores {
			switch {
			case x > y:
				halves += 2
			case x == y:
				halves++
			}
		}
	}
	return halves, 2 * len(a.Scores) * len(b.Scores)
}

// difference is S of the first less S of the second, with one rounding.
func (f *Figures) difference(p *Pair) float64 {
	a, b := f.Responses[p.First].sums, f.Responses[p.Second].sums
	n, m := int64(a.N), int64(b.N)
	return float64(a.Sum*m-b.Sum*n) / float64(1000*n*m)
}

// curve is the isotonic regression of the winner (1, ½, 0) on the difference of both S, every pair in
// both orders: the share in which people prefer the higher-scored response, by the difference in score.
func (f *Figures) curve(usable []Pair) []isotonic.Block {
	points := make([]isotonic.Point, 0, 2*len(usable))
	for i := range usable {
		d, y := f.difference(&usable[i]), (usable[i].People.sign()+1)/2
		points = append(points, isotonic.Point{At: d, Value: y}, isotonic.Point{At: -d, Value: 1 - y})
	}
	return isotonic.Fit(points)
}
