package schemas

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The reference documents every column of every table, in their order, with type and nullability.
func TestReferenceHasAllColumns(t *testing.T) {
	reference, err := os.ReadFile("../docs/reference/output.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]reflect.Type{
		"`actor` and `judge`": reflect.TypeFor[Pair](), "`raw/prompts`": reflect.TypeFor[PromptRow](),
		"`raw/responses`": reflect.TypeFor[ResponseRow](), "`raw/judgments`": reflect.TypeFor[JudgmentRow](),
		"`raw/comparisons`": reflect.TypeFor[ComparisonRow](), "`failures`": reflect.TypeFor[FailureRow](),
		"`raw/reads`": reflect.TypeFor[ReadRow](),
	}
	for name, row := range tables {
		_, section, ok := strings.Cut(string(reference), "\n"+name+":\n\n")
		if !ok {
			t.Errorf("the reference has no table %s", name)
			continue
		}
		section, _, _ = strings.Cut(section, "\n\n")
		var got []string
		for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(section, -1) {
			got = append(got, m[1]+": "+regexp.MustCompile(" (for|if|when|before) .*").ReplaceAllString(m[2], ""))
		}
		var want []string
		for f := range row.Fields() {
			column, _, _ := strings.Cut(f.Tag.Get("parquet"), ",")
			want = append(want, column+": "+columnType(f.Type))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func columnType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return columnType(t.Elem()) + ", null"
	case reflect.Slice:
		return "list of " + columnType(t.Elem())
	case reflect.Struct:
		return "{role, content}"
	case reflect.Float64:
		return "double"
	case reflect.Bool:
		return "boolean"
	default:
		return t.Kind().String()
	}
}
