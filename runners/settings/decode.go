package settings

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"coeval/schemas/redact"
)

// Decode reads the YAML of a file over the defaults in the struct that into points to. It returns an
// error that names all keys which the struct doesn't have, with the keys that may have been meant, and
// all values of a wrong type. A single value is accepted as a list of one. The cost of the file is
// bounded as [Load] bounds it. No message shows
// a line of the file, which may contain a key.
func Decode(name string, text []byte, into any) error {
	body, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s%w", name, err)
	}
	if body == nil {
		return nil
	}
	root := reflect.TypeOf(into).Elem()
	var errs []error
	found := wrongKeys(body, root, "")
	for _, w := range found {
		if w.value != "" {
			errs = append(errs, fmt.Errorf("%s:%d: %s is %s; allowed is %s", name, w.line, w.key, w.value, w.allowed))
			continue
		}
		errs = append(errs, fmt.Errorf("%s:%d: %s is no key of this file%s", name, w.line, shownKey(w.key), meant(w.key, root)))
	}
	if slices.ContainsFunc(found, func(w wrong) bool { return w.value != "" }) {
		return errors.Join(errs...) // the decoder would cut these values, or panic
	}
	return errors.Join(append(errs, fill(name, body, into))...)
}

// DecodeKnown is Decode for a text that may have other keys than the struct.
func DecodeKnown(name string, text []byte, into any) error {
	body, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s%w", name, err)
	}
	if body == nil {
		return nil
	}
	return fill(name, body, into)
}

// fill reads the values of a file into a struct.
func fill(name string, body ast.Node, into any) error {
	if err := yaml.NodeToValue(body, into); err != nil {
		return fmt.Errorf("%s: %s", name, redact.Hide(strings.TrimSpace(yaml.FormatError(err, false, false))))
	}
	return nil
}

// wrong is a key that a struct doesn't have, or one with a value of a wrong type.
type wrong struct {
	key  string
	line int
	// value is empty for an unknown key.
	value, allowed string
}

// unfit reports whether a node has no value of the type t. It doesn't examine aliases, tags, and the
// values in lists and mappings.
func unfit(node ast.Node, t reflect.Type) bool {
	switch node.(type) {
	case *ast.StringNode, *ast.LiteralNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.SequenceNode, *ast.MappingNode, *ast.MappingValueNode:
	default:
		return false
	}
	_, isList := node.(*ast.SequenceNode)
	form := form(node)
	switch t.Kind() {
	case reflect.Slice, reflect.Interface:
		return false
	case reflect.Struct, reflect.Map:
		return form != "a mapping"
	case reflect.Array:
		return !isList || losesPart(node, t)
	}
	return losesPart(node, t) || yaml.NodeToValue(node, reflect.New(t).Interface()) != nil
}

// wrongKeys returns the keys below a node that a type doesn't have, and those with values of a wrong
// type. It puts a single value into a list where the type is one.
func wrongKeys(node ast.Node, t reflect.Type, prefix string) []wrong {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var found []wrong
	if unfit(node, t) {
		return append(found, wrong{key: prefix, line: node.GetToken().Position.Line, value: shown(prefix, node), allowed: kind(t)})
	}
	switch n := node.(type) {
	case *ast.SequenceNode:
		if t.Kind() == reflect.Slice {
			for i, item := range n.Values {
				found = append(found, wrongKeys(item, t.Elem(), fmt.Sprintf("%s[%d]", prefix, i))...)
			}
		}
	case *ast.MappingNode:
		for _, pair := range n.Values {
			found = append(found, wrongKeys(pair, t, prefix)...)
		}
	case *ast.MappingValueNode:
		if t.Kind() != reflect.Struct || t.NumField() == 0 {
			return nil
		}
		key := n.Key.GetToken().Value // without quotes
		name := join(prefix, key)
		if field, ok := keysOf(t)[key]; ok {
			switch n.Value.(type) {
			case *ast.SequenceNode, *ast.NullNode, *ast.AliasNode, *ast.AnchorNode, *ast.TagNode:
			default:
				if field.Kind() == reflect.Slice {
					list := ast.Sequence(n.Value.GetToken(), true)
					list.Values = append(list.Values, n.Value)
					n.Value = list
				}
			}
			return wrongKeys(n.Value, field, name)
		}
		if !n.Key.IsMergeKey() {
			found = append(found, wrong{key: name, line: n.Key.GetToken().Position.Line})
		}
	}
	return found
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}

// keysOf returns the keys of a struct with their types, those of inline structs too.
func keysOf(t reflect.Type) map[string]reflect.Type {
	keys := map[string]reflect.Type{}
	for f := range t.Fields() {
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			maps.Copy(keys, keysOf(f.Type))
		case key != "" && key != "-":
			keys[key] = f.Type
		}
	}
	return keys
}

// meant suggests keys of a struct for an unknown one: of its section first, then of any.
func meant(key string, root reflect.Type) string {
	var known []string
	var collect func(t reflect.Type, prefix string)
	collect = func(t reflect.Type, prefix string) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return
		}
		for k, inner := range keysOf(t) {
			known = append(known, join(prefix, k))
			collect(inner, join(prefix, k))
		}
	}
	collect(root, "")
	slices.Sort(known)
	plain := withoutIndices(key)
	if similar := Similar(plain, known); len(similar) > 0 {
		return "; did you mean " + strings.Join(similar, " or ") + "?"
	}
	section, last := "", plain
	if at := strings.LastIndex(plain, "."); at >= 0 {
		section, last = plain[:at+1], plain[at+1:]
	}
	var own, elsewhere []string
	for _, k := range known {
		if rest, ok := strings.CutPrefix(k, section); ok && !strings.Contains(rest, ".") {
			own = append(own, k)
		}
		if strings.HasSuffix(k, "."+last) {
			elsewhere = append(elsewhere, k)
		}
	}
	if len(elsewhere) > 0 {
		return "; did you mean " + strings.Join(elsewhere[:min(len(elsewhere), 3)], " or ") + "?"
	}
	return "; known are " + strings.Join(own, ", ")
}

// withoutIndices removes the places in lists from a key, as [0].
func withoutIndices(key string) string {
	for {
		open := strings.IndexByte(key, '[')
		end := strings.IndexByte(key, ']')
		if open < 0 || end < open {
			return key
		}
		key = key[:open] + key[end+1:]
	}
}
