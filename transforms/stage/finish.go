package stage

import (
	"regexp"
	"strings"
)

// A Finish classifies the finish reasons of servers.
type Finish int

const (
	// FinishUnknown is a reason that is in no table. The text counts as cut off: to take a cut
	// text for a complete one would put it before a judge and into pairs.
	FinishUnknown Finish = iota
	// FinishComplete means that the model ended its text, or a stop sequence did.
	FinishComplete
	// FinishCut means that the text ran out of tokens, context or time.
	FinishCut
	// FinishFiltered means that the server withheld the text, and will do so again.
	FinishFiltered
	// FinishAbandoned means that the server failed while it wrote. The request must be repeated.
	FinishAbandoned
)

const (
	// FinishLength is the usual reason of a text that was cut off at max_tokens.
	FinishLength = "length"
	// FinishRefusal is the reason of a text that came as the model's refusal.
	FinishRefusal = "refusal"
)

// finishes has the reasons of OpenAI, vLLM, SGLang, TGI, llama.cpp, LM Studio, Mistral, Anthropic,
// Gemini, Cohere, Bedrock, Zhipu, DeepSeek and gateways, in lower case and without separators.
var finishes = map[string]Finish{}

func init() {
	for kind, reasons := range map[Finish]string{
		FinishComplete: "stop eos eostoken eosfound stopsequence stopstring stopstringfound stoptoken endturn endoftext " +
			"complete completed finish finished done end toolcalls toolcall tooluse functioncall refusal null none " +
			"normal word stopstr stopword stopwords eosid naturalstop endofsequence endofturn eot eom",
		FinishCut: "length modellength maxtokens maxnewtokens maxlength maxoutputtokens maxcompletiontokens maxpredictedtokensreached " +
			"lengthlimit tokenlimit limit contextlength contextlengthreached contextlengthexceeded modelcontextwindowexceeded " +
			"contextwindowexceeded maxcontextlength incomplete truncated timeout timelimit pauseturn userstopped thinkingbudget " +
			"maxlen maxcontext maxoutput maxoutputlength maxtoken maxtokensreached maxtokensexceeded errorlimit tokenbudget contextwindow contextfull contextlimit maxcontextwindow " +
			"outputlimit tokensexhausted usercancel stoppedlimit budgetexceeded",
		FinishFiltered: "contentfilter contentfiltered filtered safety imagesafety recitation blocklist blocked prohibitedcontent spii " +
			"sensitive guardrail guardrailintervened errortoxic moderation contentpolicyviolation language " +
			"harmful toxic unsafe policyviolation contentpolicy riskcontrol promptblocked imageprohibitedcontent csam",
		FinishAbandoned: "abort aborted error networkerror servererror internalerror failed failure cancelled canceled " +
			"insufficientsystemresource modelunloaded unload overloaded connectionerror malformedresponse interrupted " +
			"malformedfunctioncall malformedtooluse malformedmodeloutput unexpectedtoolcall toomanytoolcalls upstreamerror providererror disconnected",
	} {
		for reason := range strings.FieldsSeq(reasons) {
			finishes[reason] = kind
		}
	}
}

// FinishOf classifies a finish reason. An empty one is complete: some servers send none.
func FinishOf(reason string) Finish {
	switch reason { // almost all
	case "", "stop":
		return FinishComplete
	case FinishLength:
		return FinishCut
	}
	if dot := strings.LastIndexByte(reason, '.'); dot >= 0 {
		reason = reason[dot+1:] // an enum's name, as in FinishReason.MAX_TOKENS
	}
	reason = strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(reason))
	if kind, ok := finishes[reason]; ok {
		return kind
	}
	// The names of enums begin with their type: FINISH_REASON_STOP, REASON_MAX_LEN.
	if value := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(reason, "finish"), "stop"), "reason"); value != reason {
		if kind, ok := finishes[value]; ok {
			return kind
		}
	}
	return byStem(reason)
}

// stems are parts of reasons that are in no table, the first that matches counts: a filter that
// failed has filtered, and a stop at a limit has cut the text.
var stems = []struct {
	kind  Finish
	parts []string
}{
	{FinishFiltered, strings.Fields("filter safety moderat policy violat blocked blocklist flagged toxic unsafe nsfw recitation guardrail sensitive harm prohibit jailbreak risk armor")},
	{FinishAbandoned, strings.Fields("error exception fail crash abort cancel shutdown disconnect preempt unavailable killed enginedead outofmemory oom lost overload closed malformed missing")},
	{FinishCut, strings.Fields("length limit max exceed trunc budget overflow outof partial cutoff deadline timeout predict incomplete")},
}

// ends are the names for an end of a text: a word for it, with what ended it.
var ends = regexp.MustCompile(`^(?:finishreason|stopreason|model|generation|message|text|matched|hit|natural|im|finished)?(?:stop|eos|eot|end|endof|complete|completed|success|ok|natural)(?:token|id|turn|text|message|sequence|string|word|criteria|tokenid|matched|found|reached|hit)*$`)

func byStem(reason string) Finish {
	for _, s := range stems {
		for _, part := range s.parts {
			if strings.Contains(reason, part) {
				return s.kind
			}
		}
	}
	if ends.MatchString(reason) {
		return FinishComplete
	}
	return FinishUnknown
}
