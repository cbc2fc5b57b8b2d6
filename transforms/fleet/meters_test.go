package fleet

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"coeval/transforms/simulator"
)

var update = flag.Bool("update", false, "write the table of metrics into docs/reference/metrics.md")

// The reference has every metric that a fleet registers, with its labels and its help, and no other.
func TestMetricsReference(t *testing.T) {
	t.Parallel()
	const name = "../../docs/reference/metrics.md"
	begin, end := []byte("<!-- metrics: made by `go test ./transforms/fleet -run MetricsReference -update` -->\n"), []byte("<!-- end of metrics -->")
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(page, begin)
	_, after, ok2 := bytes.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the metrics", name)
	}
	want := slices.Concat(before, begin, []byte(metricsTable(t)), end, after)
	switch {
	case bytes.Equal(page, want):
	case !*update:
		t.Fatalf("%s differs from the program: run go test ./transforms/fleet -run MetricsReference -update", name)
	default:
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// metricsTable describes the metrics that a fleet registers, in the order of their names.
func metricsTable(t *testing.T) string {
	t.Helper()
	f := open(t, Options{})
	described := make(chan *prometheus.Desc)
	go func() {
		f.meters.Registry.Describe(described)
		close(described)
	}()
	form := regexp.MustCompile(`^Desc\{fqName: "(\w+)", help: "([^"]+)", unit: "", constLabels: \{\}, variableLabels: \{([\w,]*)\}\}$`)
	var rows []string
	for d := range described {
		m := form.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%s has another form than this test reads", d)
		}
		labels := ""
		if m[3] != "" {
			labels = "`" + strings.ReplaceAll(m[3], ",", "`, `") + "`"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", m[1], labels, m[2]))
	}
	slices.Sort(rows)
	return "| metric | labels | meaning |\n| --- | --- | --- |\n" + strings.Join(rows, "")
}

// A fleet at work has values for metrics that the registry describes only; most have one by then.
func TestMetricsAreDescribed(t *testing.T) {
	t.Parallel()
	s := start(t, simulator.Options{})
	f := open(t, Options{})
	ask(t, f, callsOf(actorAt(s.URL()), 3, 2))
	table := metricsTable(t)
	families, err := f.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if !strings.Contains(table, "| `"+family.GetName()+"` |") {
			t.Errorf("%s has a value and is not described", family.GetName())
		}
	}
	// All but coeval_retries_total, as no request failed, and coeval_queue, as no stage has a queue.
	if described := strings.Count(table, "\n| `"); len(families) < described-2 {
		t.Errorf("%d of %d metrics have a value", len(families), described)
	}
}
