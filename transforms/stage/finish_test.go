package stage

import (
	"strings"
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

// Reasons that are in no table are read by their parts.
func TestFinishOfParts(t *testing.T) {
	for kind, reasons := range map[Finish]string{
		FinishComplete:  "STOP FINISH_REASON_STOP FinishReason.STOP COMPLETE stop_sequence STOP_SEQUENCE eos_token_id stop_token natural ok success completed stop_criteria STOP_CRITERIA tool_use FINISHED matched_stop EndOfSequence stopSequence hit_stop eot_token im_end end_of_message eos_reached STOP_TOKEN EOS_TOKEN finish_reason.stop generation_complete message_stop end-turn Stop eot_id finished_eos stop_word_found model_stop stop_string_matched",
		FinishCut:       "MAX_TOKENS LENGTH MAX_LENGTH token_limit model_length max_context_length_exceeded CONTEXT_LENGTH ERROR_LIMIT max_new_tokens out_of_tokens context_window_exceeded max_output_tokens cutoff cut_off partial maxTokens num_predict max_seq_len reached_max_tokens MAXIMUM_TOKENS FinishReason.LENGTH length_capped max_sequence_length max_tokens_limit context_overflow output_truncated FINISH_REASON_MAX_TOKENS token_limit_reached exceeded_max_tokens max_time deadline stop_limit generation_limit finished_length",
		FinishFiltered:  "CONTENT_FILTERED SAFETY RECITATION PROHIBITED_CONTENT BLOCKLIST SPII guardrail_intervened ERROR_TOXIC sensitive content-filter CONTENT_MODERATION moderated IMAGE_SAFETY safety_filter violation nsfw MODEL_ARMOR IMAGE_RECITATION flagged jailbreak content_blocked FINISH_REASON_SAFETY safety_block filter policy risk unsafe_content contentFilter",
		FinishAbandoned: "ERROR network_error abort cancelled insufficient_system_resource engine_error server_shutdown preempted oom exception connection_closed internal_server_error worker_lost aborted_by_server shutdown disconnect client_disconnected engine_dead FINISH_REASON_ERROR service_unavailable MISSING_THOUGHT_SIGNATURE unavailable crash out_of_memory killed",
		FinishUnknown:   "OTHER UNSPECIFIED FINISH_REASON_UNSPECIFIED unknown foo 3",
	} {
		for reason := range strings.FieldsSeq(reasons) {
			if got := FinishOf(reason); got != kind {
				t.Errorf("%q: kind %d, want %d", reason, got, kind)
			}
		}
	}
}
