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
	"coeval/transforms/coders/coderstest"
)

// registered are the types with a registered coder. The test of the pipeline's graph checks which types
// cross a shuffle.
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
		n := 0
		coderstest.Fill(empty, 0, &n)
		coderstest.Fill(full, 2, &n)
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

// Types that cross a shuffle have exported fields of plain types only: a runner silently drops others.
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
