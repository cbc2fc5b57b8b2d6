package figures

import (
	"context"

	"coeval/datasets/shards"
	"coeval/runners/runs"
	"coeval/runners/style"
	"coeval/schemas"
)

// Pools describe the models whose responses the actor pairs were picked from: the actor, past and
// future.
type Pools struct {
	// Sources are the models, the actor first.
	Sources []Source `json:"sources"`
	// Pairs are the actor pairs by the models of both sides, in the order of the sources.
	Pairs []SourcePairs `json:"pairs"`
}

// Source is one model that answered the prompts.
type Source struct {
	// Role is actor, past or future.
	Role  string `json:"role"`
	Model string `json:"model"`
	// Responses are counted by status: complete, truncated or empty. Only complete ones are judged.
	Responses int64            `json:"responses"`
	Statuses  map[string]int64 `json:"statuses"`
	// Complete is the share of complete responses.
	Complete float64 `json:"complete"`
	// Scored are those with a mean score S, Score is the mean of S in points, Chars their mean length.
	Scored int64   `json:"scored"`
	Score  float64 `json:"score"`
	Chars  float64 `json:"chars"`
	// Chosen and Rejected count the actor pairs with a response of the model on that side.
	Chosen   int64 `json:"chosen"`
	Rejected int64 `json:"rejected"`
}

// SourcePairs are the actor pairs whose sides come from these roles.
type SourcePairs struct {
	Chosen   string `json:"chosen"`
	Rejected string `json:"rejected"`
	Pairs    int64  `json:"pairs"`
	// Share is their share of all actor pairs.
	Share float64 `json:"share"`
	// ChosenChars and RejectedChars are mean lengths, Difference is the mean of chosen − rejected.
	ChosenChars   float64 `json:"chosen_chars"`
	RejectedChars float64 `json:"rejected_chars"`
	Difference    float64 `json:"difference"`
	// Margin is the mean of S(chosen) − S(rejected) in points.
	Margin float64 `json:"margin"`
	// ChosenMarkdown and RejectedMarkdown are the shares of texts with Markdown; see package style.
	ChosenMarkdown   float64 `json:"chosen_markdown"`
	RejectedMarkdown float64 `json:"rejected_markdown"`
}

// roles are the roles that answer prompts, in the order of the figures.
var roles = []string{schemas.RoleActor, schemas.RolePast, schemas.RoleFuture}

// poolTally sums over the responses and over the actor pairs by their sources. Responses of the actor
// have the pool "".
type poolTally struct {
	sources map[string]*sourceTally
	pairs   map[[2]string]*sidesTally
}

type sourceTally struct {
	statuses map[string]int64
	// scored are of (length, S).
	scored moments
}

// sidesTally sums over pairs.
type sidesTally struct {
	pairs, chosenChars, rejectedChars, chosenMarkdown, rejectedMarkdown int64
	margin                                                              float64
}

func newPoolTally() poolTally {
	return poolTally{sources: map[string]*sourceTally{}, pairs: map[[2]string]*sidesTally{}}
}

func (t *poolTally) source(role string) *sourceTally {
	s := t.sources[role]
	if s == nil {
		s = &sourceTally{statuses: map[string]int64{}}
		t.sources[role] = s
	}
	return s
}

func (t *poolTally) sides(of [2]string) *sidesTally {
	s := t.pairs[of]
	if s == nil {
		s = &sidesTally{}
		t.pairs[of] = s
	}
	return s
}

func (t *poolTally) add(d *runs.Numbers) {
	for i := range d.Responses {
		r := &d.Responses[i]
		s := t.source(roleOf(r.Pool))
		s.statuses[r.Status]++
		if r.ScoreMean != nil {
			s.scored.add(float64(r.Chars), *r.ScoreMean)
		}
	}
}

// roleOf returns the role whose model gave a response of a pool.
func roleOf(pool string) string {
	if pool == "" {
		return schemas.RoleActor
	}
	return pool
}

// sourcedPair is a row of actor with the columns that the figures need.
type sourcedPair struct {
	PromptID      string            `parquet:"prompt_id"`
	Chosen        []schemas.Message `parquet:"chosen,list"`
	Rejected      []schemas.Message `parquet:"rejected,list"`
	ChosenModel   *string           `parquet:"chosen_model,dict"`
	RejectedModel *string           `parquet:"rejected_model,dict"`
	ScoreMargin   float64           `parquet:"score_margin"`
	ChosenChars   int32             `parquet:"chosen_chars"`
	RejectedChars int32             `parquet:"rejected_chars"`
}

// addPairs reads the actor pairs of a shard.
func (t *poolTally) addPairs(ctx context.Context, r *runs.Run, shard int) error {
	role := func(model *string) string {
		if model == nil {
			return schemas.RoleActor
		}
		return roleOf(r.Settings.PoolOf(*model))
	}
	return runs.EachShardRow[schemas.Pair](ctx, r, shards.Actor, shard, func(p *sourcedPair) error {
		s := t.sides([2]string{role(p.ChosenModel), role(p.RejectedModel)})
		s.pairs++
		s.chosenChars += int64(p.ChosenChars)
		s.rejectedChars += int64(p.RejectedChars)
		s.margin += p.ScoreMargin
		s.chosenMarkdown += marked(p.Chosen)
		s.rejectedMarkdown += marked(p.Rejected)
		return nil
	})
}

// marked returns 1 for an answer with Markdown, else 0.
func marked(answer []schemas.Message) int64 {
	for _, m := range answer {
		if style.Of(m.Content).Any() {
			return 1
		}
	}
	return 0
}

func (t *poolTally) join(u *poolTally) {
	for role, own := range u.sources {
		s := t.source(role)
		for status, n := range own.statuses {
			s.statuses[status] += n
		}
		s.scored.join(&own.scored)
	}
	for of, own := range u.pairs {
		s := t.sides(of)
		s.pairs += own.pairs
		s.chosenChars += own.chosenChars
		s.rejectedChars += own.rejectedChars
		s.margin += own.margin
		s.chosenMarkdown += own.chosenMarkdown
		s.rejectedMarkdown += own.rejectedMarkdown
	}
}

// figures returns the figures of a run with pools.
func (t *poolTally) figures(s *runs.Settings) *Pools {
	models := map[string]string{schemas.RoleActor: s.Actor.Role.Identity()}
	for i := range s.Actor.Pools {
		role := &s.Actor.Pools[i].Role
		models[role.Name] = role.Identity()
	}
	var all int64
	for _, p := range t.pairs {
		all += p.pairs
	}
	out := &Pools{}
	for _, role := range roles {
		model, ok := models[role]
		if !ok {
			continue
		}
		own := t.source(role)
		source := Source{
			Role: role, Model: model, Statuses: own.statuses,
			Scored: own.scored.n, Score: own.scored.meanY, Chars: own.scored.meanX,
		}
		for _, n := range own.statuses {
			source.Responses += n
		}
		source.Complete = share(own.statuses[string(schemas.Complete)], source.Responses)
		for of, p := range t.pairs {
			if of[0] == role {
				source.Chosen += p.pairs
			}
			if of[1] == role {
				source.Rejected += p.pairs
			}
		}
		out.Sources = append(out.Sources, source)
	}
	for _, chosen := range roles {
		for _, rejected := range roles {
			p := t.pairs[[2]string{chosen, rejected}]
			if p == nil {
				continue
			}
			out.Pairs = append(out.Pairs, SourcePairs{
				Chosen: chosen, Rejected: rejected, Pairs: p.pairs, Share: share(p.pairs, all),
				ChosenChars: share(p.chosenChars, p.pairs), RejectedChars: share(p.rejectedChars, p.pairs),
				Difference: share(p.chosenChars-p.rejectedChars, p.pairs), Margin: share(p.margin, p.pairs),
				ChosenMarkdown: share(p.chosenMarkdown, p.pairs), RejectedMarkdown: share(p.rejectedMarkdown, p.pairs),
			})
		}
	}
	return out
}
