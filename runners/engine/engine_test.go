package engine

import (
	"errors"
	"strings"
	"testing"
)

// The text that runners add around an error is removed.
func TestCause(t *testing.T) {
	const cause = "infer: the key is missing: no wonder"
	for name, text := range map[string]string{
		"bare":  cause,
		"prism": "pipeline failed:\n\tcaused by:\nbundle inst003 failed:\n\tcaused by:\n" + cause + "\n",
		"Flink": "job go-1 failed:\njava.lang.RuntimeException: Error received from SDK harness for instruction 3: process bundle failed\n\tcaused by:\nsource failed\n\tcaused by:\n" +
			"DoFn[UID:10, PID:e6, Name: coeval/transforms/infer.findFn] failed:\n" + cause,
	} {
		if got := Cause(errors.New(text)).Error(); got != cause {
			t.Errorf("%s: got %q, want %q", name, got, cause)
		}
	}
	const gone = "rpc error: code = Unavailable desc = error reading from server: connection reset by peer"
	if got := Cause(errors.New("pipeline failed:\n\tcaused by:\n" + gone)).Error(); !strings.Contains(got, gone) || !strings.Contains(got, "Run the same command to continue") {
		t.Errorf("got %q, which does not name the next step", got)
	}
}
