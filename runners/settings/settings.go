// Package settings loads a config from a preset, a YAML file and --set flags. The file overrides the preset,
// and flags override both.
//
// It reports all problems at once: unknown keys, values of a wrong type, and values that are not
// allowed. Each message names the key, the value, the allowed values, and the place in the file or the
// flag. No message shows a value that may be an API key, because users put keys into wrong places. The
// package bounds the size and the nesting of a file before it parses it, and the expanded aliases before it decodes
// values.
package settings

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"coeval/pipelines/config"
	"coeval/schemas/redact"
)

// A Setting is the value of one key from outside the file, for example from a flag.
type Setting struct {
	// Key is for example method.rho. Value is YAML. From names the origin, for example --set.
	Key, Value, From string
}

// A Source is the parts that a config is made of.
type Source struct {
	// File is the YAML and Name the name of its file. Both may be empty.
	File []byte
	Name string
	// Settings override the file, and later ones override earlier ones.
	Settings []Setting
	// Validate reports all problems of the values. Nil means [config.Config.Validate].
	Validate func(config.Config) error
	// Note is called with each fact that users should know before a run, in one sentence. Nil
	// ignores them.
	Note func(string)
}

// Load returns the config and all its problems, joined.
func Load(src Source) (config.Config, error) {
	l := &loader{places: map[string]string{}, unread: map[string]bool{}}
	given, err := l.gather(src)
	if err != nil {
		return config.Config{}, err
	}
	preset := l.preset(given)
	c, _ := config.Preset(preset) // Validate reports an unknown one
	fields := fieldsOf(reflect.ValueOf(&c).Elem())
	for _, g := range given {
		l.set(fields, g)
	}
	if src.Note != nil {
		l.notePreset(preset, fields, src.Note)
	}
	validate := config.Config.Validate
	if src.Validate != nil {
		validate = src.Validate
	}
	l.fail(validate(c))
	return c, errors.Join(l.problems...)
}

// given is one value with its key and its place, for example c.yaml:3 or --set.
type given struct {
	key   string
	node  ast.Node
	place string
}

type loader struct {
	// places maps each key to its last place.
	places map[string]string
	// unread contains the keys whose values have a wrong type. Validate sees their defaults instead, so
	// its problems with them are not reported.
	unread   map[string]bool
	problems []error
}

// fail adds a problem, with the place of its key where it has one.
func (l *loader) fail(err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			l.fail(e)
		}
		return
	}
	if p, ok := errors.AsType[*config.Problem](err); ok {
		if l.unread[p.Key] {
			return
		}
		if place := l.place(p.Key); place != "" {
			err = fmt.Errorf("%s: %w", place, err)
		}
	}
	l.problems = append(l.problems, err)
}

func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf(format, args...))
}

// place returns the place of a key, or of the list or mapping that contains it.
func (l *loader) place(key string) string {
	for key != "" {
		if place, ok := l.places[key]; ok {
			return place
		}
		cut := strings.LastIndexAny(key, ".[")
		if cut < 0 {
			return ""
		}
		key = key[:cut]
	}
	return ""
}

// gather lists the values of the file and then those of the settings.
func (l *loader) gather(src Source) ([]given, error) {
	var all []given
	if len(src.File) > 0 {
		body, err := parse(src.File)
		if err != nil {
			return nil, fmt.Errorf("%s%w", src.Name, err)
		}
		if body != nil {
			all = l.walk(nil, "", src.Name, body)
		}
	}
	var c config.Config
	fields := fieldsOf(reflect.ValueOf(&c).Elem())
	for _, s := range src.Settings {
		body, err := parse([]byte(s.Value))
		if f, ok := fields[s.Key]; err != nil && ok && f.value.Kind() == reflect.String {
			body, err = parse([]byte(strconv.Quote(s.Value))) // a text needs no quotes, even [[(\d)]]
		}
		switch {
		case err != nil:
			l.problem("%s: the value of %s%w", s.From, s.Key, err)
		case body == nil:
			all = append(all, given{key: s.Key, place: s.From})
		default:
			all = append(all, given{key: s.Key, node: body, place: s.From})
		}
	}
	return all, nil
}

// walk lists the leaves of a mapping. The fields of the config decide which keys are leaves.
func (l *loader) walk(all []given, prefix, name string, node ast.Node) []given {
	var values []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	case *ast.NullNode, *ast.CommentGroupNode:
		return all
	default:
		l.problem("%s:%d: %s is %s; allowed is a mapping of keys", name, node.GetToken().Position.Line, orFile(prefix), form(node))
		return all
	}
	sections := sectionsOf()
	for _, v := range values {
		key := strings.TrimPrefix(prefix+"."+v.Key.GetToken().Value, ".")
		place := fmt.Sprintf("%s:%d", name, v.Key.GetToken().Position.Line)
		if !sections[key] {
			all = append(all, given{key: key, node: v.Value, place: place})
			continue
		}
		all = l.walk(all, key, name, v.Value)
	}
	return all
}

func orFile(prefix string) string {
	if prefix == "" {
		return "the file"
	}
	return prefix
}

// preset returns the name of the preset: the last one wins.
func (l *loader) preset(all []given) string {
	for _, g := range slices.Backward(all) {
		if g.key == "preset" && g.node != nil {
			l.places["preset"] = g.place
			var name string
			if yaml.NodeToValue(g.node, &name) == nil {
				return name
			}
		}
	}
	return ""
}

// set decodes one value into its field.
func (l *loader) set(fields map[string]field, g given) {
	f, ok := fields[g.key]
	if !ok {
		l.problem("%s: unknown key %s; %s", g.place, shownKey(g.key), nearest(g.key, fields))
		return
	}
	l.places[g.key] = g.place
	l.unread[g.key] = true
	t := f.value.Type()
	if _, null := g.node.(*ast.NullNode); null || g.node == nil {
		if t.Kind() != reflect.Pointer {
			l.problem("%s: %s has no value; allowed is %s", g.place, g.key, kind(t))
			return
		}
		f.value.SetZero()
		delete(l.unread, g.key)
		return
	}
	if holdsKey(g) {
		l.problem("%s: the value of %s looks like an API key and is not shown; put the key into an environment variable, and the variable's name into api_key_env", g.place, g.key)
		return
	}
	fresh := reflect.New(t)
	if losesPart(g.node, t) || decode(g.node, fresh) != nil {
		l.problem("%s: %s is %s; allowed is %s", g.place, g.key, shown(g.key, g.node), kind(t))
		return
	}
	f.value.Set(fresh.Elem())
	delete(l.unread, g.key)
}

// decode reads a node into a value. A text is accepted as a list of one.
func decode(node ast.Node, to reflect.Value) error {
	if t := to.Type().Elem(); t.Kind() == reflect.Pointer {
		to.Elem().Set(reflect.New(t.Elem()))
		return decode(node, to.Elem())
	}
	if t := to.Type().Elem(); t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String {
		if _, scalar := node.(ast.ScalarNode); scalar {
			one := reflect.New(t.Elem())
			if err := yaml.NodeToValue(node, one.Interface()); err != nil {
				return err
			}
			to.Elem().Set(reflect.Append(reflect.MakeSlice(t, 0, 1), one.Elem()))
			return nil
		}
	}
	return yaml.NodeToValue(node, to.Interface())
}

// losesPart reports whether decoding would drop a part of a value: the fraction of a number where a whole
// one is needed, or items of a list of fixed length, on which the decoder panics.
func losesPart(node ast.Node, t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch n := node.(type) {
	case *ast.FloatNode:
		return t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64 && n.Value != math.Trunc(n.Value)
	case *ast.SequenceNode:
		return t.Kind() == reflect.Array && len(n.Values) != t.Len()
	}
	return false
}

// holdsKey reports whether a value looks like an API key. It skips URLs: Validate has a better message
// for a key in a URL.
func holdsKey(g given) bool {
	return !strings.HasSuffix(g.key, "urls") && redact.Value(g.node.String())
}

// form names the kind of a value that stands in the place of a mapping. A text is not shown: users give files with keys as configs.
func form(node ast.Node) string {
	switch n := node.(type) {
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.String()
	}
	return "a text"
}

// private are the keys of the config whose values of a wrong kind may be secrets.
var private = regexp.MustCompile(`\.(api_key_env|api_key_file|api_key_header|headers|query)$`)

// shown returns a value of a wrong kind for a message: without keys, shortened, and only numbers and texts.
func shown(key string, node ast.Node) string {
	if redact.Name(key) || private.MatchString(key) {
		return redact.Hidden
	}
	if f := form(node); f != "a text" {
		return f
	}
	const maxShown = 200
	text := redact.Hide(strings.TrimSpace(node.String()))
	if r := []rune(text); len(r) > maxShown {
		text = string(r[:maxShown]) + "…"
	}
	return text
}

// notePreset notes each key of the file that overrides the preset. A file that `coeval config` printed
// contains every number, so a change of its preset line alone has no effect.
func (l *loader) notePreset(name string, fields map[string]field, note func(string)) {
	preset, err := config.Preset(name)
	if name == "" || err != nil {
		return
	}
	base := config.Default()
	defaults, wanted := fieldsOf(reflect.ValueOf(&base).Elem()), fieldsOf(reflect.ValueOf(&preset).Elem())
	var kept []string
	for key, place := range l.places {
		if key == "preset" || l.unread[key] || strings.HasPrefix(place, "--") || // a flag is deliberate
			equal(defaults[key], wanted[key]) || equal(wanted[key], fields[key]) {
			continue
		}
		kept = append(kept, fmt.Sprintf("%s is %v by %s, but preset %s has %v; remove the key to use the preset's value",
			key, fields[key].value.Interface(), place, name, wanted[key].value.Interface()))
	}
	slices.Sort(kept)
	for _, text := range kept {
		note(text)
	}
}

func equal(a, b field) bool {
	return a.value.IsValid() && b.value.IsValid() && reflect.DeepEqual(a.value.Interface(), b.value.Interface())
}
