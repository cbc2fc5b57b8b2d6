package coders

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/coder"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"coeval/schemas"
)

// registered are the types with a coder of their own. Which types cross a shuffle the test of
// the pipeline's graph says.
var registered = []reflect.Type{
	reflect.TypeFor[schemas.Prompt](),
	reflect.TypeFor[schemas.Dossier](),
	reflect.TypeFor[schemas.Record](),
	reflect.TypeFor[schemas.PositionCounts](),
	reflect.TypeFor[schemas.Tally](),
	reflect.TypeFor[schemas.Manifest](),
}

func TestRoundTrip(t *testing.T) {
	for _, typ := range registered {
		c := coder.LookupCustomCoder(typ)
		if c == nil {
			t.Errorf("%s has no coder", typ)
			continue
		}
		empty, full := reflect.New(typ).Elem(), reflect.New(typ).Elem()
		fillEmpty(empty)
		n := 0
		fill(full, &n)
		for name, v := range map[string]reflect.Value{"zero": reflect.Zero(typ), "empty": empty, "full": full} {
			t.Run(typ.Name()+"/"+name, func(t *testing.T) {
				b, ok := c.Enc.Fn.Call([]any{v.Interface()})[0].([]byte)
				if !ok || len(b) == 0 {
					t.Fatalf("the coder gives %q", b)
				}
				got := c.Dec.Fn.Call([]any{b})
				if got[1] != nil {
					t.Fatal(got[1])
				}
				if diff := cmp.Diff(v.Interface(), got[0], cmpopts.EquateEmpty()); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// fillEmpty makes every slice and map one of length 0 that is not nil.
func fillEmpty(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fillEmpty(field)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillEmpty(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	}
}

// fill gives every field a value of its own, so that one that is not carried shows.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field, n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, n)
			fill(value, n)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		// What JSON has to escape, and what Beam's own coders have stumbled over.
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
		panic(fmt.Sprintf("fill does not know %s", v.Type()))
	}
}

// What travels has exported fields of plain types only: a runner drops others without a word.
func TestFieldsTravel(t *testing.T) {
	var check func(path string, typ reflect.Type)
	check = func(path string, typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Struct:
			for f := range typ.Fields() {
				if !f.IsExported() || f.Tag.Get("json") == "" {
					t.Errorf("%s.%s is not exported, or has no name in JSON", path, f.Name)
				}
				check(path+"."+f.Name, f.Type)
			}
		case reflect.Pointer, reflect.Slice:
			check(path, typ.Elem())
		case reflect.Map:
			check(path, typ.Key())
			check(path, typ.Elem())
		case reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
			t.Errorf("%s is a %s", path, typ.Kind())
		}
	}
	for _, typ := range registered {
		check(typ.String(), typ)
	}
}

func TestGarbageIsAnError(t *testing.T) {
	for _, typ := range registered {
		for _, garbage := range []string{"", "{", `{"findings": "x"`, "[1]", "\xff"} {
			if err := coder.LookupCustomCoder(typ).Dec.Fn.Call([]any{[]byte(garbage)})[1]; err == nil || !strings.Contains(fmt.Sprint(err), typ.String()) {
				t.Errorf("%s of %q: got %v, want an error that names the type", typ, garbage, err)
			}
		}
	}
}
