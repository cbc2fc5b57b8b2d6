package pages

import (
	"os"
	"strings"
	"testing"

	"coeval/runners/figures"
	"coeval/runners/summary"
	"coeval/schemas"
)

// The page on the report has every check with its threshold, and no other; and every drop reason.
func TestChecksAreDocumented(t *testing.T) {
	source, err := os.ReadFile("../../docs/reading-the-report.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(source)
	_, table, ok := strings.Cut(page, "## The checks\n")
	if !ok {
		t.Fatal("the page has no checks")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	checks := checksOf(&summary.Summary{Actor: &summary.Role{}, Judge: &summary.Role{}}, &figures.Figures{
		Pools: &figures.Pools{Sources: []figures.Source{{Role: schemas.RoleActor}, {Role: schemas.RolePast}, {Role: schemas.RoleFuture}}},
	})
	for _, c := range checks {
		row := "\n| " + c.Name + " | " + strings.ReplaceAll(c.Threshold, "\u00a0", " ") + " |"
		if !strings.Contains(table, row) {
			t.Errorf("the page lacks the row%s", row)
		}
	}
	if rows := strings.Count(table, "\n| ") - 2; rows != len(checks) { // head and rule
		t.Errorf("the page has %d checks, the report %d", rows, len(checks))
	}
	for role, reasons := range schemas.DropReasons {
		for _, reason := range reasons {
			if !strings.Contains(page, "\n| `"+reason+"` | "+role+" |") {
				t.Errorf("the page lacks the reason %s of the %s", reason, role)
			}
		}
	}
}
