// Package nesting finds YAML texts that are nested too deeply for a parser. A recursive parser would
// overflow the stack, and its time grows with the square of the depth.
package nesting

import "strings"

// TooDeep reports whether a YAML text may have more levels than these, and the first line that does. It
// counts indentations, list marks and open brackets, also in quoted texts.
func TooDeep(text string, levels int) (line int, deep bool) {
	var indents []int
	brackets := 0
	for l := range strings.SplitSeq(text, "\n") {
		line++
		rest := strings.TrimLeft(l, " \t")
		if rest == "" || rest[0] == '#' {
			continue
		}
		indent := len(l) - len(rest)
		for len(indents) > 0 && indents[len(indents)-1] >= indent {
			indents = indents[:len(indents)-1]
		}
		indents = append(indents, indent)
		marks := 0
		for strings.HasPrefix(rest, "- ") || strings.HasPrefix(rest, "? ") || strings.HasPrefix(rest, ": ") {
			marks++
			rest = strings.TrimLeft(rest[2:], " \t")
		}
		for i := range len(rest) {
			switch rest[i] {
			case '[', '{':
				brackets++
			case ']', '}':
				brackets = max(0, brackets-1)
			}
			if len(indents)+marks+brackets > levels {
				return line, true
			}
		}
		if len(indents)+marks > levels {
			return line, true
		}
	}
	return line, false
}
