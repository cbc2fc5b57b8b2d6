package stage

import (
	"testing"

	"coeval/schemas"
)

func TestFinishOf(t *testing.T) {
	for kind, reasons := range map[Finish][]string{
		FinishComplete:  {"", "stop", "eos", "eos_token", "eosFound", "stop_sequence", "end_turn", "tool_calls", "STOP", "FinishReason.STOP", "COMPLETE", "normal", "FINISH_REASON_STOP", "REASON_STOP", "STOP_REASON_END_TURN", FinishRefusal},
		FinishCut:       {"length", "model_length", "max_tokens", "MAX_TOKENS", "FinishReason.MAX_TOKENS", "model_context_window_exceeded", "maxPredictedTokensReached", "contextLengthReached", "pause_turn", "REASON_MAX_LEN", "ERROR_LIMIT", "max_output", "TIMEOUT"},
		FinishFiltered:  {"content_filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "guardrail_intervened", "sensitive", "ERROR_TOXIC", "FINISH_REASON_SAFETY"},
		FinishAbandoned: {"abort", "error", "network_error", "insufficient_system_resource", "ERROR", "MALFORMED_FUNCTION_CALL", "malformed_model_output"},
		FinishUnknown:   {"tired", "OTHER", "FINISH_REASON_UNSPECIFIED", ".", "finish_reason", "reason"},
	} {
		for _, reason := range reasons {
			if got := FinishOf(reason); got != kind {
				t.Errorf("%q: kind %d, want %d", reason, got, kind)
			}
		}
	}
}

// Only a text that is known to be complete is read as one.
func TestReadTextOfUnknownReason(t *testing.T) {
	for reason, want := range map[string]bool{"stop": false, "length": true, "model_length": true, "tired": true, "network_error": true} {
		for _, strip := range []bool{false, true} {
			if _, _, cut := ReadText(schemas.Generation{Text: "a", FinishReason: reason}, strip); cut != want {
				t.Errorf("%q: cut is %t, want %t", reason, cut, want)
			}
		}
	}
}
