package settings

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"coeval/schemas/redact"
)

// The bounds of a config file. A file of all keys has 10 kB, 4 levels and 200 nodes.
const (
	maxBytes = 1 << 20
	maxDepth = 64
	maxNodes = 100_000
)

// parse returns the body of a YAML document, nil for an empty one. Its errors continue the name of
// the file. They show no line of it, which may have a key.
func parse(text []byte) (ast.Node, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf(": has %d bytes; allowed are %d", len(text), maxBytes)
	}
	if line, deep := tooDeep(string(text)); deep {
		return nil, fmt.Errorf(":%d: is nested more than %d levels deep", line, maxDepth)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil {
			at := syntax.Token.Position
			return nil, fmt.Errorf(":%d:%d: not YAML: %s", at.Line, at.Column, redact.Hide(syntax.Message))
		}
		return nil, errors.New(": not YAML")
	}
	if len(file.Docs) > 1 {
		return nil, fmt.Errorf(": has %d YAML documents; allowed is 1", len(file.Docs))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, nil
	}
	body := file.Docs[0].Body
	m := measure{anchors: map[string]int{}}
	if m.nodes(body) > maxNodes {
		return nil, fmt.Errorf(": has more than %d values, its aliases expanded", maxNodes)
	}
	return body, nil
}

// tooDeep reports whether a text may be nested too deeply for a parser that recurses, and the line.
// It counts indentations, list marks and open brackets, also in quoted texts.
func tooDeep(text string) (line int, deep bool) {
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
			if len(indents)+marks+brackets > maxDepth {
				return line, true
			}
		}
		if len(indents)+marks > maxDepth {
			return line, true
		}
	}
	return line, false
}

// measure counts the values of a document after its aliases are expanded.
type measure struct {
	// anchors has the number of values of each anchor.
	anchors map[string]int
}

// nodes returns the number of values of a node, at most a little above maxNodes.
func (m *measure) nodes(node ast.Node) int {
	n := 1
	add := func(children ...ast.Node) {
		for _, c := range children {
			if c != nil && n <= maxNodes {
				n += m.nodes(c)
			}
		}
	}
	switch v := node.(type) {
	case *ast.MappingNode:
		for _, value := range v.Values {
			add(value)
		}
	case *ast.MappingValueNode:
		add(v.Key, v.Value)
	case *ast.SequenceNode:
		add(v.Values...)
	case *ast.TagNode:
		add(v.Value)
	case *ast.AnchorNode:
		add(v.Value)
		m.anchors[v.Name.GetToken().Value] = n
	case *ast.AliasNode:
		n += m.anchors[v.Value.GetToken().Value]
	}
	return n
}
