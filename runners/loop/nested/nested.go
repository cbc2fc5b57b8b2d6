// Package nested copies and changes settings decoded from YAML. A section is a map. A key contains the names of its
// sections, for example method.rho.
package nested

import "strings"

// Clone copies settings with all their sections and lists.
func Clone(settings map[string]any) map[string]any {
	out := make(map[string]any, len(settings))
	for key, value := range settings {
		out[key] = cloneValue(value)
	}
	return out
}

func cloneValue(value any) any {
	switch v := value.(type) {
	case map[string]any:
		return Clone(v)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = cloneValue(v[i])
		}
		return list
	default:
		return v
	}
}

// Set sets a key of nested settings, as method.rho. The keys of a section are set one by one, and leave its others.
func Set(settings map[string]any, key string, value any) {
	if section, ok := value.(map[string]any); ok {
		for name, v := range section {
			Set(settings, key+"."+name, v)
		}
		return
	}
	section, rest, nested := strings.Cut(key, ".")
	if !nested {
		settings[key] = value
		return
	}
	inner, ok := settings[section].(map[string]any)
	if !ok {
		inner = map[string]any{}
		settings[section] = inner
	}
	Set(inner, rest, value)
}

// Section returns a section of settings, which it adds where there is none.
func Section(settings map[string]any, name string) map[string]any {
	s, ok := settings[name].(map[string]any)
	if !ok {
		s = map[string]any{}
		settings[name] = s
	}
	return s
}
