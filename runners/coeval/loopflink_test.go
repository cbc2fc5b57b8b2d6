//go:build flink

package main

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/transforms/simulator"
)

// Two iterations of a loop whose runs are on Flink write the files that they write on the direct runner: pairs,
// raw tables, training sets, and models. One with both phases of temporal does, too.
func TestFlinkLoop(t *testing.T) {
	server := jobServer(t, "[local]")
	for name, schedule := range map[string]string{
		"Meta-Rewarding": "schedule: [{preset: paper-1}, {preset: paper-2}]",
		"two phases":     "schedule: [{preset: temporal, roles: [actor, judge], set: {judge.n: 4}}]",
	} {
		t.Run(name, func(t *testing.T) {
			made := func(beam string) map[string]string {
				w := newWorker(t, simulator.Options{World: uneven(), Adapters: true, Models: []string{"base", "judge"}})
				l := newLoopRun(t, w.URL, schedule, beam)
				l.complete(t)
				return l.outcome(t)
			}
			direct := made("beam: ['--runner=direct']")
			flink := made(fmt.Sprintf("beam: ['--runner=flink', '--endpoint=%s', '--environment_type=LOOPBACK', '--parallelism=2']", server))
			if diff := cmp.Diff(direct, flink); diff != "" {
				t.Errorf("the files differ from those of the direct runner: %s", diff)
			}
		})
	}
}
