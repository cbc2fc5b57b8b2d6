// Package patterns compiles the regular expressions of parsers at their first use. The parsers of scores and
// verdicts have more than 200 of them. Compiling all of them at the start of a process took 35 of 90
// milliseconds of CPU, even in commands that parse nothing.
package patterns

import (
	"regexp"
	"sync"
)

// A Pattern is a regular expression. Its methods are those of [regexp.Regexp], and panic if the expression is
// invalid; see [Check].
type Pattern struct {
	expr    string
	compile func() *regexp.Regexp
}

// all are the patterns of the process.
var all []*Pattern

// New returns a pattern. Only declarations of variables of packages call it.
func New(expr string) *Pattern {
	p := &Pattern{expr, sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })}
	all = append(all, p)
	return p
}

// Check compiles all patterns of the imported packages and returns their number and the first error.
func Check() (n int, err error) {
	for _, p := range all {
		if _, err := regexp.Compile(p.expr); err != nil {
			return 0, err
		}
	}
	return len(all), nil
}

// String returns the expression.
func (p *Pattern) String() string { return p.expr }

// MatchString is that of [regexp.Regexp].
func (p *Pattern) MatchString(s string) bool { return p.compile().MatchString(s) }

// FindString is that of [regexp.Regexp].
func (p *Pattern) FindString(s string) string { return p.compile().FindString(s) }

// FindStringIndex is that of [regexp.Regexp].
func (p *Pattern) FindStringIndex(s string) []int { return p.compile().FindStringIndex(s) }

// FindStringSubmatch is that of [regexp.Regexp].
func (p *Pattern) FindStringSubmatch(s string) []string { return p.compile().FindStringSubmatch(s) }

// FindStringSubmatchIndex is that of [regexp.Regexp].
func (p *Pattern) FindStringSubmatchIndex(s string) []int {
	return p.compile().FindStringSubmatchIndex(s)
}

// FindAllString is that of [regexp.Regexp].
func (p *Pattern) FindAllString(s string, n int) []string { return p.compile().FindAllString(s, n) }

// FindAllStringIndex is that of [regexp.Regexp].
func (p *Pattern) FindAllStringIndex(s string, n int) [][]int {
	return p.compile().FindAllStringIndex(s, n)
}

// FindAllStringSubmatch is that of [regexp.Regexp].
func (p *Pattern) FindAllStringSubmatch(s string, n int) [][]string {
	return p.compile().FindAllStringSubmatch(s, n)
}

// FindAllStringSubmatchIndex is that of [regexp.Regexp].
func (p *Pattern) FindAllStringSubmatchIndex(s string, n int) [][]int {
	return p.compile().FindAllStringSubmatchIndex(s, n)
}

// ReplaceAllString is that of [regexp.Regexp].
func (p *Pattern) ReplaceAllString(s, with string) string {
	return p.compile().ReplaceAllString(s, with)
}

// ReplaceAllStringFunc is that of [regexp.Regexp].
func (p *Pattern) ReplaceAllStringFunc(s string, with func(string) string) string {
	return p.compile().ReplaceAllStringFunc(s, with)
}
