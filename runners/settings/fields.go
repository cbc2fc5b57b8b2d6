package settings

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"

	"coeval/pipelines/config"
	"coeval/schemas/redact"
)

// A Key is one key of a config.
type Key struct {
	// Name is the key, for example method.rho. Kind describes the values that it accepts, Default is
	// YAML, and Doc explains the key.
	Name, Kind, Default, Doc string
}

// Keys returns every key of a config, sorted by name.
func Keys() []Key {
	c := config.Default()
	fields := fieldsOf(reflect.ValueOf(&c).Elem())
	keys := make([]Key, 0, len(fields))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := fields[name]
		value, err := yaml.MarshalWithOptions(f.value.Interface(), yaml.Flow(true))
		if err != nil { // defaults are numbers, texts and empty lists
			panic(fmt.Sprintf("settings: the default of %s: %v", name, err))
		}
		keys = append(keys, Key{Name: name, Kind: kind(f.value.Type()), Default: strings.TrimSpace(string(value)), Doc: f.doc})
	}
	return keys
}

// Print returns the config as YAML, every key with its documentation before it.
func Print(c config.Config) ([]byte, error) {
	comments := yaml.CommentMap{}
	for _, k := range Keys() {
		comments["$."+k.Name] = []*yaml.Comment{yaml.HeadComment(" " + k.Doc)}
	}
	b, err := yaml.MarshalWithOptions(c, yaml.WithComment(comments), yaml.CustomMarshaler(quoted))
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return b, nil
}

// kind describes the values that a field accepts.
func kind(t reflect.Type) string {
	if t == reflect.TypeFor[time.Duration]() {
		return "a duration, for example 90s or 10m"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return kind(t.Elem()) + ", or null to send none"
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
	case reflect.Struct:
		return "a mapping of keys"
	default:
		return "a text"
	}
}

// minSecretWord is the length from which a word of letters and digits may be a secret.
const minSecretWord = 16

// shownKey returns an unknown key for a message. A user may have written a secret in its place: it is not
// shown if it has a long word with a digit, as no key of a config has.
func shownKey(key string) string {
	for word := range strings.FieldsFuncSeq(key, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if len(word) >= minSecretWord && strings.ContainsAny(word, "0123456789") {
			return redact.Hidden
		}
	}
	return redact.Hide(key)
}

// nearest returns a suggestion for an unknown key.
func nearest(key string, fields map[string]field) string {
	last := key[strings.LastIndex(key, ".")+1:]
	section := key[:max(strings.LastIndex(key, "."), 0)]
	known := slices.Sorted(maps.Keys(fields))
	if strings.ReplaceAll(strings.ToLower(last), "_", "") == "apikey" {
		if section == "" {
			section = "worker"
		}
		return fmt.Sprintf("did you mean %s.api_key_env, the name of an environment variable with the key?", section)
	}
	if f, ok := fields[section]; ok && f.value.Kind() == reflect.Map {
		return fmt.Sprintf("did you mean %s={%s: VALUE}?", section, shownKey(last))
	}
	if sectionsOf()[key] {
		return "it has keys of its own: " + strings.Join(below(key, known), ", ")
	}
	var same []string
	for _, k := range known {
		if strings.HasSuffix(k, "."+last) || k == last {
			same = append(same, k)
		}
	}
	if len(same) == 0 {
		same = Similar(key, known)
	}
	if len(same) > 0 {
		return "did you mean " + strings.Join(same, " or ") + "?"
	}
	if own := below(section, known); len(own) > 0 {
		return "known are " + strings.Join(own, ", ")
	}
	return "coeval config prints all keys"
}

// below returns the keys of a section.
func below(section string, known []string) []string {
	var own []string
	for _, k := range known {
		if strings.HasPrefix(k, section+".") {
			own = append(own, k)
		}
	}
	return own
}

// Similar returns up to three names that a misspelt one may mean. It compares a name without dots with
// the last part of each dotted name too: rhoo matches method.rho. If no name is near, those are similar that
// begin with the misspelt one, or with which it begins: output matches out.
func Similar(name string, known []string) []string {
	type near struct {
		name     string
		distance int
	}
	var found []near
	for _, k := range known {
		d := distance(name, k)
		if last := k[strings.LastIndex(k, ".")+1:]; !strings.Contains(name, ".") {
			d = min(d, distance(name, last))
		}
		if d <= max(1, len(name)/4) {
			found = append(found, near{k, d})
		}
	}
	if len(found) == 0 {
		for _, k := range known {
			if begins(name, k) || begins(k, name) {
				found = append(found, near{k, 0})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b near) int { return a.distance - b.distance })
	var names []string
	for _, f := range found {
		if f.distance == found[0].distance && len(names) < 3 {
			names = append(names, f.name)
		}
	}
	return names
}

// begins reports whether a name begins with another of at least three letters.
func begins(name, with string) bool {
	const least = 3
	return len(with) >= least && len(name) > len(with) && strings.EqualFold(name[:len(with)], with)
}

// distance is the Damerau-Levenshtein distance of two names, ignoring case and the difference between
// "-" and "_".
func distance(a, b string) int {
	a, b = strings.ReplaceAll(strings.ToLower(a), "-", "_"), strings.ReplaceAll(strings.ToLower(b), "-", "_")
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
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

// sectionsOf returns the keys that contain other keys.
func sectionsOf() map[string]bool {
	var c config.Config
	sections := map[string]bool{}
	collect(reflect.ValueOf(&c).Elem(), "", map[string]field{}, sections)
	return sections
}

func collect(v reflect.Value, prefix string, fields map[string]field, sections map[string]bool) {
	for i := range v.NumField() {
		tag, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case tag == "-":
			continue
		case options == "inline":
			collect(v.Field(i), prefix, fields, sections)
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
