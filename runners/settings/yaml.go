package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"coeval/schemas/nesting"
	"coeval/schemas/redact"
)

// The bounds of a config file. A file of all keys has 10 kB, 4 levels and 200 nodes.
const (
	maxBytes = 1 << 20
	maxDepth = 64
	maxNodes = 100_000
)

// Encode returns settings as a config file that [Load] and [Decode] read. It is JSON, which is YAML: the encoder for
// YAML loses line ends, and writes the text "\n" as an empty one.
func Encode(values map[string]any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(values); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return b.Bytes(), nil
}

// quoted writes a text with control characters in quotes; see [Encode].
func quoted(text string) ([]byte, error) {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return []byte(strconv.Quote(text)), nil
	}
	return yaml.Marshal(text)
}

// parse returns the body of a YAML document, nil for an empty one. Its errors continue the name of
// the file. They show no line of it, which may have a key.
func parse(text []byte) (ast.Node, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf(": has %d bytes; allowed are %d", len(text), maxBytes)
	}
	if line, deep := nesting.TooDeep(string(text), maxDepth); deep {
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
	if at := colonInText(body); at != nil {
		return nil, fmt.Errorf(":%d:%d: a text with a colon has no quotes inside brackets or braces: quote it, as in [\"http://host:8000/v1\"], or write a space after the colon of a key", at.Line, at.Column)
	}
	m := measure{anchors: map[string]int{}}
	if m.nodes(body) > maxNodes {
		return nil, fmt.Errorf(": has more than %d values, its aliases expanded", maxNodes)
	}
	return body, nil
}

// colonInText returns the place of a colon that the parser took for the end of a key although no space
// follows, nil if there is none. It does so for texts in lists inside braces, such as
// {urls: [http://host:8000/v1]}, where YAML has one text.
func colonInText(body ast.Node) *token.Position {
	var found colons
	ast.Walk(&found, body)
	return found.first
}

// colons finds the first colon of colonInText.
type colons struct{ first *token.Position }

// Visit implements ast.Visitor.
func (c *colons) Visit(node ast.Node) ast.Visitor {
	pair, ok := node.(*ast.MappingValueNode)
	if !ok || c.first != nil {
		return c
	}
	if _, none := pair.Value.(*ast.NullNode); none {
		return c
	}
	quoted := false
	if key := pair.Key.GetToken(); key != nil {
		quoted = key.Type == token.DoubleQuoteType || key.Type == token.SingleQuoteType
	}
	colon, value := pair.Start.Position, pair.Value.GetToken().Position
	if !quoted && value.Line == colon.Line && value.Column == colon.Column+1 {
		c.first = colon
	}
	return c
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
