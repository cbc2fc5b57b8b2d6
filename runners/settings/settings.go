// Package settings makes a config of a preset, a YAML file and single settings, each standing
// before what comes earlier.
//
// All that is wrong is told at once: unknown keys, values of another type, and values that
// are not allowed, each with its key, its value, what is allowed, and where it was given.
package settings

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"coeval/pipelines/metareward"
)

// A Setting is one key that was given beside the file.
type Setting struct {
	// Key is as method.rho, Value is YAML, and From is where it was given, as --set.
	Key, Value, From string
}

// Source is where a config comes from.
type Source struct {
	// File is the YAML and Name how it is called; both may be empty.
	File []byte
	Name string
	// Settings stand before the file, and later ones before earlier ones.
	Settings []Setting
	// Validate tells all that is wrong with the values. Nil means [metareward.Config.Validate].
	Validate func(metareward.Config) error
}

// Load returns the config and all that is wrong with it, joined.
func Load(src Source) (metareward.Config, error) {
	l := &loader{places: map[string]string{}, unread: map[string]bool{}}
	given, err := l.gather(src)
	if err != nil {
		return metareward.Config{}, err
	}
	c, _ := metareward.Preset(l.preset(given)) // of one that is not known Validate tells
	fields := fieldsOf(reflect.ValueOf(&c).Elem())
	for _, g := range given {
		l.set(fields, g)
	}
	validate := metareward.Config.Validate
	if src.Validate != nil {
		validate = src.Validate
	}
	l.fail(validate(c))
	return c, errors.Join(l.problems...)
}

// Keys returns every key of a config, sorted, with its documentation.
func Keys() map[string]string {
	c := metareward.Default()
	docs := map[string]string{}
	for key, f := range fieldsOf(reflect.ValueOf(&c).Elem()) {
		docs[key] = f.doc
	}
	return docs
}

// given is one value with its key and where it stands.
type given struct {
	key   string
	node  ast.Node
	place string
}

type loader struct {
	// places says where each key was given last.
	places map[string]string
	// unread are the keys whose values are of another type: nothing follows from what stands instead.
	unread   map[string]bool
	problems []error
}

// fail keeps a problem, with the place of its key where it has one.
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
	if p, ok := errors.AsType[*metareward.Problem](err); ok {
		if l.unread[p.Key] {
			return
		}
		if place := l.place(p.Key); place != "" {
			err = fmt.Errorf("%s: %w", place, err)
		}
	}
	l.problems = append(l.problems, err)
}

// place finds where a key was given, or the list or map that holds it.
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
		file, err := parser.ParseBytes(src.File, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: not YAML: %s", src.Name, yaml.FormatError(err, false, true))
		}
		if len(file.Docs) > 1 {
			return nil, fmt.Errorf("%s: has %d YAML documents; allowed is 1", src.Name, len(file.Docs))
		}
		if len(file.Docs) == 1 && file.Docs[0].Body != nil {
			all = l.walk(nil, "", src.Name, file.Docs[0].Body)
		}
	}
	for _, s := range src.Settings {
		file, err := parser.ParseBytes([]byte(s.Value), 0)
		if err != nil || len(file.Docs) != 1 || file.Docs[0].Body == nil {
			l.problems = append(l.problems, fmt.Errorf("%s: %s: %q is no YAML value", s.From, s.Key, s.Value))
			continue
		}
		all = append(all, given{key: s.Key, node: file.Docs[0].Body, place: s.From})
	}
	return all, nil
}

// walk lists the leaves of a mapping. What is a leaf the fields of the config say.
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
		l.problems = append(l.problems, fmt.Errorf("%s:%d: %s is %s; allowed is a mapping of keys",
			name, node.GetToken().Position.Line, orFile(prefix), strings.TrimSpace(node.String())))
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

// preset returns the last preset that was given.
func (l *loader) preset(all []given) string {
	for _, g := range slices.Backward(all) {
		if g.key == "preset" {
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
		l.problems = append(l.problems, fmt.Errorf("%s: unknown key %s; %s", g.place, g.key, nearest(g.key, fields)))
		return
	}
	l.places[g.key] = g.place
	l.unread[g.key] = true
	if _, empty := g.node.(*ast.NullNode); empty {
		l.problems = append(l.problems, fmt.Errorf("%s: %s has no value; allowed is %s", g.place, g.key, kind(f.value.Type())))
		return
	}
	fresh := reflect.New(f.value.Type())
	if err := yaml.NodeToValue(g.node, fresh.Interface()); err != nil {
		l.problems = append(l.problems, fmt.Errorf("%s: %s is %s; allowed is %s", g.place, g.key, strings.TrimSpace(g.node.String()), kind(f.value.Type())))
		return
	}
	f.value.Set(fresh.Elem())
	delete(l.unread, g.key)
}

// kind names what a field can hold.
func kind(t reflect.Type) string {
	if t == reflect.TypeFor[time.Duration]() {
		return "a time, as 90s or 10m"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list of texts"
	case reflect.Array:
		return fmt.Sprintf("a list of %d numbers", t.Len())
	case reflect.Map:
		return "a mapping"
	default:
		return "a text"
	}
}

// nearest suggests the keys that an unknown one may mean.
func nearest(key string, fields map[string]field) string {
	last := key[strings.LastIndex(key, ".")+1:]
	var same []string
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		if strings.HasSuffix(k, "."+last) || k == last {
			same = append(same, k)
		}
	}
	if len(same) > 0 {
		return "did you mean " + strings.Join(same, " or ") + "?"
	}
	section := key[:max(strings.LastIndex(key, "."), 0)]
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		if section != "" && strings.HasPrefix(k, section+".") {
			same = append(same, k)
		}
	}
	if len(same) > 0 {
		return "known are " + strings.Join(same, ", ")
	}
	return "coeval config prints all keys"
}

// field is a leaf of the config.
type field struct {
	value reflect.Value
	doc   string
}

// fieldsOf returns the leaves of a config by their keys.
func fieldsOf(v reflect.Value) map[string]field {
	fields := map[string]field{}
	collect(v, "", fields, map[string]bool{})
	return fields
}

// sectionsOf returns the keys that hold other keys.
func sectionsOf() map[string]bool {
	var c metareward.Config
	sections := map[string]bool{}
	collect(reflect.ValueOf(&c).Elem(), "", map[string]field{}, sections)
	return sections
}

func collect(v reflect.Value, prefix string, fields map[string]field, sections map[string]bool) {
	for i := range v.NumField() {
		tag, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if options == "inline" {
			collect(v.Field(i), prefix, fields, sections)
			continue
		}
		if tag == "-" {
			continue
		}
		key := strings.TrimPrefix(prefix+"."+tag, ".")
		if v.Field(i).Kind() == reflect.Struct {
			sections[key] = true
			collect(v.Field(i), key, fields, sections)
			continue
		}
		fields[key] = field{value: v.Field(i), doc: v.Type().Field(i).Tag.Get("doc")}
	}
}

// Print returns the config as YAML, every key with its documentation before it.
func Print(c metareward.Config) ([]byte, error) {
	comments := yaml.CommentMap{}
	for key, doc := range Keys() {
		comments["$."+key] = []*yaml.Comment{yaml.HeadComment(" " + doc)}
	}
	b, err := yaml.MarshalWithOptions(c, yaml.WithComment(comments))
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return b, nil
}
