package prompting

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"
)

// A template may come from anyone, and text/template sets no bounds: {{range 1000000000}} runs for
// minutes, a part that calls itself twice never ends, and {{$x = print $x $x}} in a range fills the
// memory. So every execution has a budget of steps and of bytes. A hidden function counts a step
// at the start of each loop body and each part, and the functions that make strings count bytes.
const (
	maxSteps = 100_000
	// maxOutput bounds the output of an execution without data. Each byte of data adds maxGrowth bytes.
	maxOutput = 1 << 20
	maxGrowth = 64
	// maxDepth bounds the blocks inside one another, as the recursive parser uses the stack for each.
	maxDepth = 100
)

// stepFunction is a name that no template can write: it is put into parsed templates.
const stepFunction = "coeval_step"

var (
	errSteps  = fmt.Errorf("its loops and parts run more than %d times; make them smaller", maxSteps)
	errOutput = errors.New("it makes too much text; loops, padding and repetition multiply the output")
)

// A bounded is a template with a budget for one execution at a time.
type bounded struct {
	template *template.Template
	steps    int
	bytes    int
}

// parseBounded returns the template of a source, whose executions count their steps.
func parseBounded(name, source string) (*template.Template, error) {
	if depth := strings.Count(source, "{{"); depth > maxDepth {
		if err := checkDepth(source); err != nil {
			return nil, err
		}
	}
	text, err := template.New(name).Option("missingkey=error").Funcs(new(bounded).functions()).Parse(source)
	if err != nil {
		return nil, err
	}
	return text, nil
}

// countSteps puts the step function into all loops and parts.
func countSteps(text *template.Template) error {
	counter, err := template.New("").Funcs(new(bounded).functions()).Parse("{{" + stepFunction + "}}")
	if err != nil {
		return err
	}
	step := counter.Root.Nodes[0]
	for _, part := range text.Templates() {
		if part.Tree != nil && part.Root != nil {
			prepend(part.Root, step)
			visitRanges(part.Root, func(body *parse.ListNode) { prepend(body, step) })
		}
	}
	return nil
}

func prepend(list *parse.ListNode, node parse.Node) {
	list.Nodes = append([]parse.Node{node.Copy()}, list.Nodes...)
}

// visitRanges calls f for the body of each loop.
func visitRanges(list *parse.ListNode, f func(body *parse.ListNode)) {
	if list == nil {
		return
	}
	for _, node := range list.Nodes {
		switch n := node.(type) {
		case *parse.RangeNode:
			visitRanges(n.List, f)
			visitRanges(n.ElseList, f)
			f(n.List)
		case *parse.IfNode:
			visitRanges(n.List, f)
			visitRanges(n.ElseList, f)
		case *parse.WithNode:
			visitRanges(n.List, f)
			visitRanges(n.ElseList, f)
		}
	}
}

// checkDepth returns an error if blocks of a source stand too deep inside one another. It counts
// words that open and close blocks, so it may count those in comments, too.
func checkDepth(source string) error {
	depth := 0
	for rest := source; ; {
		_, after, ok := strings.Cut(rest, "{{")
		if !ok {
			return nil
		}
		rest = after
		word := strings.TrimLeft(strings.TrimPrefix(rest, "-"), " \t\r\n(")
		switch {
		case strings.HasPrefix(word, "end"):
			depth--
		case strings.HasPrefix(word, "if"), strings.HasPrefix(word, "range"), strings.HasPrefix(word, "with"),
			strings.HasPrefix(word, "define"), strings.HasPrefix(word, "block"), strings.HasPrefix(word, "else if"), strings.HasPrefix(word, "else with"):
			depth++
		}
		if depth > maxDepth {
			return fmt.Errorf("its blocks stand more than %d deep inside one another", maxDepth)
		}
	}
}

// functions are the built-in functions that make strings, bounded, and the step function.
func (b *bounded) functions() template.FuncMap {
	maker := func(f func(args ...any) string) func(args ...any) (string, error) {
		return func(args ...any) (string, error) { return b.text(f, args) }
	}
	return template.FuncMap{
		stepFunction: func() (string, error) {
			if b.steps--; b.steps < 0 {
				return "", errSteps
			}
			return "", nil
		},
		"print":    maker(fmt.Sprint),
		"println":  maker(fmt.Sprintln),
		"html":     maker(template.HTMLEscaper),
		"js":       maker(template.JSEscaper),
		"urlquery": maker(template.URLQueryEscaper),
		"printf": func(format string, args ...any) (string, error) {
			if padding(format, args) > b.bytes {
				return "", errOutput
			}
			return b.text(func(args ...any) string { return fmt.Sprintf(format, args...) }, args)
		},
	}
}

// text returns the string that f makes. It looks at the arguments first, as there may be thousands of
// a long one.
func (b *bounded) text(f func(args ...any) string, args []any) (string, error) {
	size := 0
	for _, a := range args {
		if s, ok := a.(string); ok {
			size += len(s)
		}
	}
	if size > b.bytes {
		return "", errOutput
	}
	s := f(args...)
	return s, b.spend(len(s))
}

// padding returns a bound on the characters that the widths and precisions of a format add: the sum of
// its numbers, and the largest argument for each that an asterisk takes from there.
func padding(format string, args []any) int {
	const most = 1_000_000 // of package fmt
	sum, number := 0, 0
	for i := range len(format) {
		if c := format[i]; c >= '0' && c <= '9' {
			number = min(number*10+int(c-'0'), most)
			continue
		}
		sum, number = sum+number, 0
	}
	largest := 0
	for _, a := range args {
		if n, ok := a.(int); ok {
			largest = max(largest, min(max(n, -n), most))
		}
	}
	return sum + number + strings.Count(format, "*")*largest
}

func (b *bounded) spend(n int) error {
	if b.bytes -= n; b.bytes < 0 {
		return errOutput
	}
	return nil
}

// Write counts the bytes of an execution's output.
func (b *boundedWriter) Write(p []byte) (int, error) {
	if err := b.budget.spend(len(p)); err != nil {
		return 0, err
	}
	return b.text.Write(p)
}

type boundedWriter struct {
	text   strings.Builder
	budget *bounded
}

// executions are idle copies of a template, as one serves one execution at a time.
type executions struct {
	text *template.Template
	idle sync.Pool
}

// execute returns the output of a part of the template for data.
func (e *executions) execute(part string, data Data) (string, error) {
	b, _ := e.idle.Get().(*bounded)
	if b == nil {
		b = new(bounded)
		copied, err := e.text.Clone()
		if err != nil {
			return "", err
		}
		b.template = copied.Funcs(b.functions())
	}
	defer e.idle.Put(b)
	b.steps, b.bytes = maxSteps, maxOutput+maxGrowth*data.size()
	w := &boundedWriter{budget: b}
	if err := b.template.ExecuteTemplate(w, part, data); err != nil {
		return "", err
	}
	return w.text.String(), nil
}

// size returns the bytes of all texts.
func (d Data) size() int {
	size := 0
	for _, v := range d {
		switch v := v.(type) {
		case string:
			size += len(v)
		case []string:
			for _, s := range v {
				size += len(s)
			}
		}
	}
	return size
}
