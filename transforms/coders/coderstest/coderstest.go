// Package coderstest makes values of the types that cross a shuffle, for tests.
package coderstest

import (
	"fmt"
	"reflect"
)

// Fill gives every field of v, at any depth, a distinct value, so a lost field shows; n counts them.
// Slices and maps get this many entries; below 0 they and pointers stay nil.
func Fill(v reflect.Value, entries int, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			Fill(field, entries, n)
		}
	case reflect.Pointer:
		if entries >= 0 {
			v.Set(reflect.New(v.Type().Elem()))
			Fill(v.Elem(), entries, n)
		}
	case reflect.Slice:
		if entries >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), entries, entries))
		}
		for i := range v.Len() {
			Fill(v.Index(i), entries, n)
		}
	case reflect.Map:
		if entries >= 0 {
			v.Set(reflect.MakeMap(v.Type()))
		}
		for range entries {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			Fill(key, entries, n)
			Fill(value, entries, n)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		// Characters that JSON escapes, and others with which Beam's coders have failed.
		v.SetString(fmt.Sprintf("text %d: ä 語 😀 \"<&>\"\u2028\x00\n\t\\", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(-int64(*n))
	case reflect.Uint8:
		v.SetUint(uint64(*n % 256))
	case reflect.Float64:
		v.SetFloat(float64(*n) / 3)
	default:
		panic(fmt.Sprintf("coderstest: Fill does not know %s", v.Type()))
	}
}
