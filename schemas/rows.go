package schemas

// The rows of the Parquet files. A pointer is a nullable column; a plain field is
// required. Columns that trainers give a meaning of their own (margin, images, messages,
// completion, tools, label, chat_template_kwargs, *_ids, ref_*_logps) are avoided.

// A Pair is one DPO example, for the actor or for the judge.
type Pair struct {
	ID       string    `parquet:"id"`
	PromptID string    `parquet:"prompt_id"`
	Prompt   []Message `parquet:"prompt,list"`
	Chosen   []Message `parquet:"chosen,list"`
	Rejected []Message `parquet:"rejected,list"`
	// ResponseID is the response of both judgments; null for an actor pair.
	ResponseID *string `parquet:"response_id"`
	// ChosenID and RejectedID name rows of raw/responses (actor) or raw/judgments (judge).
	ChosenID   string `parquet:"chosen_id"`
	RejectedID string `parquet:"rejected_id"`
	// ChosenModel and RejectedModel wrote the two texts, each with its revision: the actor, past or
	// future for an actor pair, the judge for a judge pair.
	ChosenModel   *string `parquet:"chosen_model,dict"`
	RejectedModel *string `parquet:"rejected_model,dict"`
	// Scores are rubric points: a response's mean, or a judgment's own.
	ChosenScore   float64 `parquet:"chosen_score"`
	RejectedScore float64 `parquet:"rejected_score"`
	ScoreMargin   float64 `parquet:"score_margin"`
	// MarginSE is the standard error of an actor pair's margin. It is null for a judge
	// pair, whose scores are single.
	MarginSE      *float64 `parquet:"margin_se"`
	ChosenChars   int32    `parquet:"chosen_chars"`
	RejectedChars int32    `parquet:"rejected_chars"`
	// Elo is eps of the method's step 7; null for an actor pair.
	ChosenElo   *float64 `parquet:"chosen_elo"`
	RejectedElo *float64 `parquet:"rejected_elo"`
	OwnID       []string `parquet:"own_id,list"`
	Metadata    string   `parquet:"metadata"`
}

// PromptRow is a row of raw/prompts.
type PromptRow struct {
	ID         string    `parquet:"id"`
	Prompt     []Message `parquet:"prompt,list"`
	OwnID      []string  `parquet:"own_id,list"`
	SourceFile string    `parquet:"source_file,dict"`
	SourceLine int64     `parquet:"source_line"`
	Metadata   string    `parquet:"metadata"`
	Chars      int32     `parquet:"chars"`
	// Outcome and reason of each role; null when the role was not requested.
	ActorOutcome        *string `parquet:"actor_outcome,dict"`
	ActorReason         *string `parquet:"actor_reason,dict"`
	JudgeOutcome        *string `parquet:"judge_outcome,dict"`
	JudgeReason         *string `parquet:"judge_reason,dict"`
	ContestedResponseID *string `parquet:"contested_response_id"`
	// AskingStopped, ExpectedRegret and ExpectedSpread are fields of [Asking]; null when the
	// comparisons were not requested in rounds.
	AskingStopped  *string  `parquet:"asking_stopped,dict"`
	ExpectedRegret *float64 `parquet:"expected_regret"`
	ExpectedSpread *float64 `parquet:"expected_spread"`
}

// ResponseRow is a row of raw/responses.
type ResponseRow struct {
	ID           string  `parquet:"id"`
	PromptID     string  `parquet:"prompt_id"`
	Replicates   []int32 `parquet:"replicates,list"`
	Model        string  `parquet:"model,dict"`
	Text         string  `parquet:"text"`
	Reasoning    *string `parquet:"reasoning"`
	Status       string  `parquet:"status,dict"`
	Chars        int32   `parquet:"chars"`
	PromptTokens int32   `parquet:"prompt_tokens"`
	// ParsedJudgments is n, ScoreMean S_k and ScoreVariance V_k over them; null when unscored.
	ParsedJudgments int32    `parquet:"parsed_judgments"`
	ScoreMean       *float64 `parquet:"score_mean"`
	ScoreVariance   *float64 `parquet:"score_variance"`
	Contested       bool     `parquet:"contested"`
}

// JudgmentRow is a row of raw/judgments.
type JudgmentRow struct {
	ID             string   `parquet:"id"`
	PromptID       string   `parquet:"prompt_id"`
	ResponseID     string   `parquet:"response_id"`
	Replicate      int32    `parquet:"replicate"`
	Model          string   `parquet:"model,dict"`
	Text           string   `parquet:"text"`
	Reasoning      *string  `parquet:"reasoning"`
	Chars          int32    `parquet:"chars"`
	Score          *float64 `parquet:"score"`
	UnparsedReason *string  `parquet:"unparsed_reason,dict"`
	Distinct       bool     `parquet:"distinct"`
	Elo            *float64 `parquet:"elo"`
	PromptTokens   int32    `parquet:"prompt_tokens"`
}

// ComparisonRow is a row of raw/comparisons.
type ComparisonRow struct {
	ID         string  `parquet:"id"`
	PromptID   string  `parquet:"prompt_id"`
	ResponseID string  `parquet:"response_id"`
	FirstID    string  `parquet:"first_id"`
	SecondID   string  `parquet:"second_id"`
	Model      string  `parquet:"model,dict"`
	Text       string  `parquet:"text"`
	Reasoning  *string `parquet:"reasoning"`
	// Winner is first, second or none.
	Winner         string  `parquet:"winner,dict"`
	UnparsedReason *string `parquet:"unparsed_reason,dict"`
	// Round counts from 1; null when all comparisons were requested at once.
	Round        *int32 `parquet:"round"`
	PromptTokens int32  `parquet:"prompt_tokens"`
}

// ReadRow is a row of raw/reads, a table of runs with reads alone: the probabilities of a score or of a
// comparison.
type ReadRow struct {
	// ID is the ID of the comparison, or of the read of a response.
	ID         string `parquet:"id"`
	PromptID   string `parquet:"prompt_id"`
	ResponseID string `parquet:"response_id"`
	// FirstID and SecondID are the judgments of a comparison; null for a score.
	FirstID   *string `parquet:"first_id"`
	SecondID  *string `parquet:"second_id"`
	Replicate int32   `parquet:"replicate"`
	Model     string  `parquet:"model,dict"`
	// Labels and LogProbs are the labels with a reported probability, and its natural logarithm.
	Labels   []string  `parquet:"labels,list"`
	LogProbs []float64 `parquet:"log_probs,list"`
	// LabelMass is the sum of the labels' probabilities.
	LabelMass float64 `parquet:"label_mass"`
	// Value is the expected score in points, or the probability that the judgment shown first wins. Variance
	// is the variance of a score, in squared points; null for a comparison.
	Value          *float64 `parquet:"value"`
	Variance       *float64 `parquet:"variance"`
	UnparsedReason *string  `parquet:"unparsed_reason,dict"`
	PromptTokens   int32    `parquet:"prompt_tokens"`
}

// FailureRow is a row of failures.
type FailureRow struct {
	Stage      string  `parquet:"stage,dict"`
	Code       string  `parquet:"code,dict"`
	Message    string  `parquet:"message"`
	SourceFile *string `parquet:"source_file"`
	SourceLine *int64  `parquet:"source_line"`
	PromptID   *string `parquet:"prompt_id"`
	ResponseID *string `parquet:"response_id"`
	FirstID    *string `parquet:"first_id"`
	SecondID   *string `parquet:"second_id"`
	Replicate  *int32  `parquet:"replicate"`
}
