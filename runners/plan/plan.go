// Package plan estimates a run before it starts: the generations of each stage, the calls that the journal
// already has, tokens and bytes.
//
// It reads the prompts and the journal and sends no request. Requests to measure the servers' rates, which
// coeval plan sends on demand, are in package estimate.
package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"coeval/datasets/journal"
	"coeval/datasets/prompts"
	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/pipelines/metareward"
	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/judge"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

// Stage is a plan's estimate for one stage.
type Stage struct {
	Stage string `json:"stage"`
	// Generations is the number that the stage needs, Held the number among them that the journal
	// has, Ask the missing ones. Requests carry them, with n where a call has several replicates.
	Generations int64 `json:"generations"`
	Held        int64 `json:"held"`
	Ask         int64 `json:"ask"`
	Requests    int64 `json:"requests"`
	// PromptTokens are the tokens to send, CompletionTokens the tokens to generate, both for Ask alone.
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
}

// Plan is an estimate of a run.
type Plan struct {
	Lines    int64   `json:"lines"`
	Bad      int64   `json:"bad"`
	Merged   int64   `json:"merged"`
	NotDrawn int64   `json:"not_drawn"`
	Prompts  int64   `json:"prompts"`
	Shards   int     `json:"shards"`
	Buckets  int64   `json:"buckets"`
	Stages   []Stage `json:"stages"`
	// AnsweredBy is the kind of servers whose answers the journal contains: real, simulated, or
	// empty for none. Refused is the reason why a run with this config cannot start in this folder,
	// usually empty.
	AnsweredBy string `json:"answered_by"`
	Refused    string `json:"refused,omitempty"`
	// Known is the number of prompts with a complete dossier in the journal.
	Known int64 `json:"known"`
	// JournalBytes and OutputBytes estimate the storage of the whole run. The journal's part is its
	// size now, and the size of the missing answers.
	JournalBytes int64 `json:"journal_bytes"`
	OutputBytes  int64 `json:"output_bytes"`
	// Compression has the compression ratios of the estimate.
	Compression Compression `json:"compression"`
	// Assumed are the text lengths in characters behind the estimates of tokens and bytes, and
	// whether they were measured in the journal.
	Assumed map[string]Length `json:"assumed"`

	// Reads are the stages whose answers are one token each; Assumed has the lengths of their verdicts in
	// words.
	Reads []string `json:"reads,omitempty"`
	// Pools are the roles that answer beside the actor.
	Pools []config.AskedPool `json:"pools,omitempty"`

	// again is the size of the texts that tables contain in addition to the stages' own: prompts and pairs.
	again int64
}

// Compression has the compression ratios of the texts in the tables and in the journal.
type Compression struct {
	Tables  float64 `json:"tables"`
	Journal float64 `json:"journal"`
	// Measured reports whether the ratio was measured on texts of the journal.
	Measured bool `json:"measured"`
}

// Length is the mean length of a stage's texts, and of the part of a request that shows them.
type Length struct {
	Chars       int64 `json:"chars"`
	Measured    bool  `json:"measured"`
	PromptChars int64 `json:"prompt_chars"`
}

// The assumptions of Plan. Texts have these lengths until the journal has enough to measure: they are
// rough lengths of an instruction-tuned model of 8 billion parameters on chat prompts.
const (
	// CharsPerToken is the mean number of characters in a token.
	CharsPerToken = 4
	// compression is the ratio of zstd on prose in the tables: measurements gave 3 to 5. Texts of the
	// simulated worker repeat themselves more.
	compression, simulatedCompression = 3.5, 4.6
	// frames is the ratio of the journal's frames to pages of the same texts when answers arrive one
	// by one: between 1 at hundreds of answers a second and 2 at tens.
	frames = 1.5
	// rowBytes and recordBytes are the incompressible parts of a row and of a record: IDs and keys.
	rowBytes, recordBytes = 47, 35
	// shardBytes is the size of the seven files of an empty shard.
	shardBytes = 20_000
	// maxSampled is the size of the sample of a stage's texts for measuring compression, in pages.
	maxSampled, page = 1 << 20, 256 << 10

	// ResponseChars, JudgmentChars and ComparisonChars are lengths of texts in characters.
	ResponseChars   = 1500
	JudgmentChars   = 900
	ComparisonChars = 700
	// RubricChars is the length of a built-in template without quoted texts.
	RubricChars = 1600
)

// New estimates a run from the prompts and the journal. It sends no request.
//
// It runs the stages on the answers in the journal. After the first gap in a dossier it assumes that
// the later stages need all their calls: K complete distinct responses, N distinct parsed judgments. So
// the number of generations is an upper bound, since a run merges, drops and fails some.
func New(ctx context.Context, c config.Config, scan *prompts.Scan, retryFailed []string) (*Plan, error) {
	chain, err := c.Chain()
	if err != nil {
		return nil, err
	}
	stage, err := stage.Chain(chain)
	if err != nil {
		return nil, err
	}
	if err := metareward.CheckKept(ctx, c.Output.Dir); err != nil {
		return nil, err
	}
	dir := metareward.JournalDir(c.Output.Dir)
	lengths, err := journal.FindPrefixBits(ctx, dir)
	if err != nil {
		return nil, err
	}
	pools, err := c.AskedPools()
	if err != nil {
		return nil, err
	}
	in := metareward.Input{Scan: scan, Journal: lengths}
	p := &planner{
		config: &c, stage: stage, dir: dir, lengths: lengths, bits: metareward.Bits(&c, &in), retryFailed: retryFailed,
		counts: map[string]*Stage{}, chars: map[string]*sum{}, pools: pools,
	}
	if err := p.readAll(ctx, scan); err != nil {
		return nil, err
	}
	if p.respondent, err = journal.ReadRespondent(ctx, dir); err != nil {
		return nil, err
	}
	files, err := store.List(ctx, dir+"/")
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	for _, f := range files {
		p.journalBytes += f.Size
	}
	return p.plan(scan)
}

// sum adds up the lengths of a stage's texts in the journal, and keeps a sample of them.
type sum struct {
	texts, chars int64
	sample       []byte
}

type planner struct {
	config *config.Config
	stage  stage.Stage
	// dir is the journal, lengths its prefix lengths, and bits the prefix length of the run's buckets.
	dir     string
	lengths journal.PrefixBits
	bits    int
	// retryFailed are the codes of recorded failures to ask again.
	retryFailed []string
	counts      map[string]*Stage
	chars       map[string]*sum
	known       int64
	pools       []config.AskedPool
	respondent  journal.Respondent
	// journalBytes is the journal's size now.
	journalBytes int64
}

// readers is the number of buckets in memory at a time, at about 200 KB for each of their prompts.
// On an object store reading a bucket is mostly waiting.
const readers = 8

// readAll counts the journal's answers to the prompts, several buckets at a time.
func (p *planner) readAll(ctx context.Context, scan *prompts.Scan) error {
	byBucket, err := p.byBucket(ctx, scan)
	if err != nil {
		return err
	}
	buckets := slices.Sorted(maps.Keys(byBucket)) // sorted, so that the sample is deterministic
	for some := range slices.Chunk(buckets, readers) {
		ids, contents := make([][]string, len(some)), make([]journal.Contents, len(some))
		group, reading := errgroup.WithContext(ctx)
		for i, bucket := range some {
			group.Go(func() (err error) {
				wanted := map[string]bool{}
				for _, id := range byBucket[bucket] {
					if s := id.String(); !wanted[s] {
						wanted[s] = true
						ids[i] = append(ids[i], s)
					}
				}
				contents[i], err = journal.Read(reading, p.dir, p.lengths, bucket, func(id string) bool { return wanted[id] })
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return fmt.Errorf("plan: %w", err)
		}
		for i := range some {
			for _, id := range ids[i] {
				if err := p.count(ctx, id, contents[i][id]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// byBucket returns the IDs of the run's prompts, merged ones included, by the bucket to read them from.
// When the run's own buckets will be smaller than the journal's, it is a bucket of the journal.
func (p *planner) byBucket(ctx context.Context, scan *prompts.Scan) (map[string][]uuid.UUID, error) {
	byBucket := map[string][]uuid.UUID{}
	for _, f := range scan.Files {
		err := prompts.ReadFile(ctx, f, p.config.Reading(), func(line prompts.Line) error {
			if line.Bad != nil || !scan.Sample.Keep(line.Prompt.ID) {
				return nil
			}
			id, err := uuid.Parse(line.Prompt.ID)
			bucket := journal.Bucket(line.Prompt.ID, p.lengths.Longest())
			byBucket[bucket] = append(byBucket[bucket], id)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
	}
	return byBucket, nil
}

// errGap ends the stages of an incomplete dossier.
var errGap = errors.New("plan: the journal has a gap")

// count runs the stages of one prompt on the journal's answers, and adds their needs.
func (p *planner) count(ctx context.Context, id string, records journal.Records) error {
	d := &schemas.Dossier{Prompt: schemas.Prompt{ID: id}}
	t := &tracer{planner: p, records: records}
	switch err := p.stage(ctx, t, d); {
	case errors.Is(err, errGap):
	case err != nil:
		return err
	default:
		p.known++
	}
	k, n := int64(p.config.Actor.N), int64(p.config.Judge.N)
	for _, pool := range p.pools {
		k += int64(pool.N)
	}
	switch t.gap {
	case schemas.StageGenerate, schemas.StagePast, schemas.StageFuture:
		if p.config.ReadsScores() {
			reads := int64(p.config.Judge.Reads)
			p.at(schemas.StageReads).add(k*reads, 0, k)
			p.contestedUpTo(n)
			break
		}
		p.at(schemas.StageJudge).add(k*n, 0, k)
		p.metaUpTo(n)
	case schemas.StageReads:
		p.contestedUpTo(n)
	case schemas.StageJudge:
		if rounds := p.config.Rounds(); rounds != nil { // later rounds follow
			left := int64(rounds.Max) - t.judged
			p.at(schemas.StageJudge).add(left, 0, laterRounds(left))
			n = int64(rounds.Max)
		}
		p.metaUpTo(n)
	case schemas.StageMeta:
		if p.config.Budget.Comparisons == config.SettledComparisons { // later rounds follow
			left := max(p.maxComparisons(int64(len(d.Contested().DistinctJudgments())))-t.compared, 0)
			p.at(schemas.StageMeta).add(left, 0, left)
		}
	}
	return nil
}

// maxComparisons returns the largest number of comparisons of n judgments.
func (p *planner) maxComparisons(n int64) int64 {
	all := n * (n - 1)
	if p.config.Budget.Comparisons == config.SettledComparisons {
		return min(all, int64(p.config.Budget.MaxComparisons)/2*2) // both orders of a pair or none
	}
	return all
}

// contestedUpTo adds the judgments of the contested response, n in a first round, and their comparisons.
func (p *planner) contestedUpTo(n int64) {
	most := n
	if rounds := p.config.Rounds(); rounds != nil {
		most = int64(rounds.Max)
	}
	if p.wants(schemas.RoleJudge) {
		p.at(schemas.StageJudge).add(most, 0, 1+laterRounds(most-n))
	}
	p.metaUpTo(most)
}

// laterRounds returns the number of rounds that ask for these judgments after the first round.
func laterRounds(judgments int64) int64 { return (judgments + judge.PerRound - 1) / judge.PerRound }

func (p *planner) metaUpTo(n int64) {
	if p.wants(schemas.RoleJudge) {
		most := p.maxComparisons(n)
		p.at(schemas.StageMeta).add(most, 0, most)
	}
}

func (p *planner) wants(role string) bool { return slices.Contains(p.config.Roles, role) }

func (p *planner) at(stage string) *Stage {
	s := p.counts[stage]
	if s == nil {
		s = &Stage{Stage: stage}
		p.counts[stage] = s
	}
	return s
}

func (s *Stage) add(generations, held, requests int64) {
	s.Generations += generations
	s.Held += held
	s.Ask += generations - held
	s.Requests += requests
}

// tracer is a Caller that counts. It answers from the journal until the first gap.
type tracer struct {
	planner *planner
	records journal.Records
	gap     string // the stage with the first gap
	// compared counts the comparisons that were looked up, and judged the judgments of a response judged in rounds.
	compared, judged int64
}

// Do implements [stage.Caller].
func (t *tracer) Do(ctx context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	for i := range calls {
		c := &calls[i]
		key, held, requests := c.Key(), int64(0), int64(0)
		last := true
		for k := range c.N {
			r, ok := t.records.Get(key, c.First+k)
			ok = ok && !infer.Retries(t.planner.retryFailed, r.Code)
			if ok {
				held++
				t.planner.measure(c.Stage, r)
			} else {
				t.gap = c.Stage
				if last {
					requests++ // a contiguous range of replicates begins
				}
			}
			last = ok
		}
		t.planner.at(c.Stage).add(int64(c.N), held, requests)
		switch c.Stage {
		case schemas.StageMeta:
			t.compared += int64(c.N)
		case schemas.StageJudge:
			t.judged = int64(c.First + c.N)
		}
	}
	if t.gap != "" {
		return nil, errGap
	}
	return infer.Replayer{Get: t.records.Get}.Do(ctx, calls)
}

func (p *planner) measure(stage string, r *journal.Record) {
	s := p.chars[stage]
	if s == nil {
		s = &sum{}
		p.chars[stage] = s
	}
	s.texts++
	s.chars += int64(len(r.Text) + len(r.Reasoning))
	if len(s.sample) < maxSampled {
		s.sample = append(append(s.sample, r.Text...), r.Reasoning...)
	}
}

// compression returns the compression ratios.
func (p *planner) compression() (Compression, error) {
	c := Compression{Tables: compression}
	if p.config.Simulate.Enabled {
		c.Tables = simulatedCompression
	}
	var texts, compressed int
	for _, stage := range slices.Sorted(maps.Keys(p.chars)) {
		for part := range slices.Chunk(p.chars[stage].sample, page) {
			n, err := shards.Compressed(part)
			if err != nil {
				return c, err
			}
			texts += len(part)
			compressed += n
		}
	}
	if texts >= page { // a smaller sample is too inaccurate
		c.Tables, c.Measured = float64(texts)/float64(compressed), true
	}
	c.Journal = c.Tables / frames
	if p.config.Simulate.Enabled { // it gives hundreds of answers a second
		c.Journal = c.Tables
	}
	return c, nil
}

// assumed returns the assumed lengths of texts.
func (p *planner) assumed() (response, judgment, comparison int64) {
	if !p.config.Simulate.Enabled {
		return ResponseChars, JudgmentChars, ComparisonChars
	}
	w, err := world.Named(p.config.Simulate.World)
	if err != nil { // Validate checks the names
		w = world.Default()
	}
	return int64(w.ResponseChars), int64(w.JudgmentChars), int64(w.ComparisonChars)
}

// reads are the stages whose answers are one token each.
func (p *planner) reads() (stages []string) {
	if p.config.ReadsScores() {
		stages = append(stages, schemas.StageReads)
	}
	if p.config.ReadsComparisons() {
		stages = append(stages, schemas.StageMeta)
	}
	return stages
}

func (p *planner) length(stage string, maxTokens int, assumed int64) Length {
	if s := p.chars[stage]; s != nil && s.texts > 0 && !slices.Contains(p.reads(), stage) {
		return Length{Chars: s.chars / s.texts, Measured: true}
	}
	if maxTokens > 0 {
		assumed = min(assumed, int64(maxTokens)*CharsPerToken)
	}
	return Length{Chars: assumed}
}

func (p *planner) plan(scan *prompts.Scan) (*Plan, error) {
	c := p.config
	compression, err := p.compression()
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	answer, verdict, comparison := p.assumed()
	out := &Plan{
		Lines: scan.Lines, Bad: scan.Bad, Merged: scan.Merged, NotDrawn: scan.Distinct - scan.Prompts, Prompts: scan.Prompts,
		Pools: p.pools, Reads: p.reads(), Shards: metareward.Shards(c, scan), Buckets: 1 << p.bits, Known: p.known, Compression: compression,
		Assumed: map[string]Length{
			schemas.StageGenerate: p.length(schemas.StageGenerate, c.Actor.MaxTokens, answer),
			schemas.StageJudge:    p.length(schemas.StageJudge, c.Judge.MaxTokens, verdict),
			schemas.StageMeta:     p.length(schemas.StageMeta, c.MetaJudge.MaxTokens, comparison),
		},
	}
	asked := []string{schemas.StageGenerate}
	for _, pool := range p.pools {
		out.Assumed[pool.Stage] = p.length(pool.Stage, c.Actor.MaxTokens, out.Assumed[schemas.StageGenerate].Chars)
		asked = append(asked, pool.Stage)
	}
	if out.AnsweredBy = p.respondent.Kind; metareward.MixesRespondents(c, p.respondent) != nil {
		out.Refused = metareward.MixesRespondents(c, p.respondent).Error()
	}
	prompt := scan.Chars / max(scan.Distinct, 1)
	response, judgment := p.meanResponse(out.Assumed), out.Assumed[schemas.StageJudge].Chars
	shown := map[string]int64{
		schemas.StageGenerate: prompt,
		schemas.StageJudge:    RubricChars + prompt + response,
		schemas.StageMeta:     RubricChars + prompt + response + 2*judgment,
		schemas.StagePast:     prompt,
		schemas.StageFuture:   prompt,
	}
	out.again = scan.Prompts * prompt
	if p.wants(schemas.RoleActor) {
		out.again += scan.Prompts * (prompt + 2*response)
	}
	if p.wants(schemas.RoleJudge) {
		out.again += scan.Prompts * (shown[schemas.StageJudge] + 2*judgment)
	}
	var texts, chars, left, leftChars int64
	if p.config.ReadsScores() {
		asked = append(asked, schemas.StageReads)
		out.Assumed[schemas.StageReads], shown[schemas.StageReads] = out.Assumed[schemas.StageJudge], shown[schemas.StageJudge]
	}
	for _, stage := range append(asked, schemas.StageJudge, schemas.StageMeta) {
		s := p.at(stage)
		l := out.Assumed[stage]
		l.PromptChars = shown[stage]
		out.Assumed[stage] = l
		if slices.Contains(out.Reads, stage) {
			l.Chars = CharsPerToken
		}
		s.PromptTokens = s.Requests * l.PromptChars / CharsPerToken
		s.CompletionTokens = s.Ask * l.Chars / CharsPerToken
		texts += s.Generations
		chars += s.Generations * l.Chars
		left += s.Ask
		leftChars += s.Ask * l.Chars
		out.Stages = append(out.Stages, *s)
	}
	_, out.OutputBytes = out.Storage(texts, chars)
	out.JournalBytes, _ = out.Storage(left, leftChars)
	out.JournalBytes += p.journalBytes
	return out, nil
}

// meanResponse is the mean length of the responses of all models.
func (p *planner) meanResponse(assumed map[string]Length) int64 {
	texts := int64(p.config.Actor.N)
	chars := texts * assumed[schemas.StageGenerate].Chars
	for _, pool := range p.pools {
		texts += int64(pool.N)
		chars += int64(pool.N) * assumed[pool.Stage].Chars
	}
	return chars / max(texts, 1)
}

// Storage estimates the bytes of journal and of tables for a number of texts for the plan's prompts.
func (p *Plan) Storage(texts, chars int64) (journalBytes, outputBytes int64) {
	journalBytes = int64(float64(chars)/p.Compression.Journal) + recordBytes*texts
	outputBytes = int64(float64(chars+p.again)/p.Compression.Tables) + rowBytes*texts + shardBytes*int64(p.Shards)
	return journalBytes, outputBytes
}
