// Package metareward builds the Beam graph of one Meta-Rewarding iteration from its config.
//
//	prompts ─► source.Read ─► infer.RunStages ─► pairs.ActorPairs ─► pairs.JudgePairs (─► pairs.BalancePairs) ─► sink.Write ─► sink.Commit
//	                                                    │                   ▲
//	                                                    └─ PositionCounts ──┘
//
// [Build] makes the graph. [NewAsking] and [NewJudging] return the set-up for calls without a graph, to the
// same servers and through the same journal. [infer.RunInProcess] makes these calls.
package metareward

import (
	"math/bits"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"coeval/datasets/journal"
	"coeval/datasets/prompts"
	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/infer/spending"
	"coeval/transforms/pairs"
	"coeval/transforms/sink"
	"coeval/transforms/source"
	"coeval/transforms/stage"
)

// Input describes the prompts and the journal before the graph is made.
type Input struct {
	// Attempt is the ID of this execution of the program.
	Attempt string
	Scan    *prompts.Scan
	// Journal has the prefix lengths of the journal's buckets; see [journal.FindPrefixBits].
	Journal journal.PrefixBits
	// Workers is the number of processes or machines that share the work. Zero means one.
	Workers int
	// RetryFailed are the codes of failed calls to request again.
	RetryFailed []string
	// Bounds limit the requests. Zero means no limit.
	Bounds spending.Bounds
	// Locked reports whether the attempt owns the lock of the run's folder and must stop when it
	// loses the lock.
	Locked bool
}

// Bounds for the mean number of prompts in a bucket, the unit that a runner deals out to workers. The
// upper bound limits the part of the journal in memory.
const (
	minPromptsPerBucket = 4
	maxPromptsPerBucket = 128
	// bucketsPerWorker makes shares even: of 32 buckets that a hash distributes, a worker's share is
	// mostly within a third of the mean. More buckets would only cost folders.
	bucketsPerWorker = 32
)

// promptsPerBucket returns the largest mean number of prompts in a bucket.
func (in *Input) promptsPerBucket() int64 {
	if in.Workers <= 1 {
		return maxPromptsPerBucket
	}
	return min(max(in.Scan.Prompts/int64(bucketsPerWorker*in.Workers), minPromptsPerBucket), maxPromptsPerBucket)
}

// Shards returns the number of files of each table: the smallest power of two that leaves each with at
// most prompts_per_shard prompts.
func Shards(c *config.Config, scan *prompts.Scan) int {
	return 1 << powerOfTwo(scan.Prompts, c.Output.PromptsPerShard)
}

// Bits returns the prefix length of the run's buckets. Each shard consists of whole buckets, and the
// number of buckets never shrinks.
func Bits(c *config.Config, in *Input) int {
	atLeast := max(in.Journal.Longest(), bits.TrailingZeros(uint(Shards(c, in.Scan))))
	return min(max(atLeast, powerOfTwo(in.Scan.Prompts, in.promptsPerBucket())), journal.MaxBits)
}

// powerOfTwo returns the smallest p with total / 2^p ≤ each.
func powerOfTwo(total, each int64) int {
	p := 0
	for total > each<<p {
		p++
	}
	return p
}

// JournalDir returns the journal of a run's folder.
func JournalDir(out string) string { return store.Join(out, rundir.JournalFolder) }

// Build adds the graph of a run to the scope's pipeline. It returns an error if the config is
// invalid.
func Build(s beam.Scope, c config.Config, in Input) error {
	if err := c.Validate(); err != nil {
		return err
	}
	options, err := c.Resolve()
	if err != nil {
		return err
	}
	chain, err := c.Chain()
	if err != nil {
		return err
	}
	s = s.Scope("metareward")
	read, err := source.Read(s, readOptions(&c, &in))
	if err != nil {
		return err
	}
	found, err := infer.RunStages(s, read.Prompts, chain, inferOptions(&c, &in, asked(&c, options)...))
	if err != nil {
		return err
	}
	chosen, err := choose(&c, s, found.Records)
	if err != nil {
		return err
	}
	to, err := sinkOptions(&c, &in, options, chain)
	if err != nil {
		return err
	}
	records := beam.Flatten(s, chosen, read.BadLines)
	manifests, err := sink.Write(s, records, to)
	if err != nil {
		return err
	}
	tallies := beam.Flatten(s, read.Tallies, found.Tallies, sink.Tally(s, records))
	return sink.Commit(s, tallies, manifests, to)
}

// choose adds the selections for the requested roles.
func choose(c *config.Config, s beam.Scope, records beam.PCollection) (beam.PCollection, error) {
	var err error
	if c.Wants(schemas.RoleActor) {
		if records, err = pairs.ActorPairs(s, records, c.Method.ActorOptions()); err != nil {
			return records, err
		}
	}
	if c.Wants(schemas.RoleJudge) {
		method := c.DecidedMethod()
		o := method.JudgeOptions()
		if records, err = pairs.JudgePairs(s, records, pairs.PositionCounts(s, records), o); err != nil || !o.Balance.Enabled() {
			return records, err
		}
		return pairs.BalancePairs(s, records, o.Balance)
	}
	return records, err
}

func readOptions(c *config.Config, in *Input) source.Options {
	return source.Options{Files: in.Scan.Files, Reading: c.Reading(), Sample: in.Scan.Sample, Bits: Bits(c, in)}
}

// asked returns the roles that a run asks.
func asked(c *config.Config, r *config.Resolved) []*stage.Role {
	roles := []*stage.Role{&r.Generate.Role}
	if c.ReadsScores() {
		if reads, err := r.Judge.ReadOptions(); err == nil { // Validate reports the error
			roles = append(roles, &reads.Role)
		}
	}
	if !c.ReadsScores() || c.Wants(schemas.RoleJudge) {
		roles = append(roles, &r.Judge.Role)
	}
	for i := range r.Generate.Pools {
		roles = append(roles, &r.Generate.Pools[i].Role)
	}
	if c.Wants(schemas.RoleJudge) {
		roles = append(roles, &r.Meta.Role)
	}
	return roles
}

// poolModels returns the models of the roles beside the actor, with their revisions, by role.
func poolModels(r *config.Resolved) map[string]string {
	var models map[string]string
	for _, p := range r.Generate.Pools {
		if models == nil {
			models = map[string]string{}
		}
		models[p.Role.Name] = p.Role.Identity()
	}
	return models
}

// inferOptions returns the options of infer.RunStages for these roles.
func inferOptions(c *config.Config, in *Input, asked ...*stage.Role) infer.Options {
	o := infer.Options{
		Attempt: in.Attempt, Journal: JournalDir(c.Output.Dir), PrefixBits: in.Journal, Keys: keysOf(asked), Window: c.Client.Window,
		MaxInFlight: c.Client.MaxInFlight, RequestTimeout: c.Client.RequestTimeout,
		RequestsPerMinute: c.Client.RequestsPerMinute, TokensPerMinute: c.Client.TokensPerMinute, Tries: c.Client.Tries,
		Patience: c.Client.Patience, RetryFailed: in.RetryFailed, Bounds: in.Bounds,
	}
	if in.Locked {
		o.Fence = c.Output.Dir
	}
	for _, r := range asked {
		if r.Verdict != nil || r.Read != nil {
			o.Prove = append(o.Prove, *r)
		}
	}
	return o
}

// keysOf returns an endpoint of each set of secrets that these roles need.
func keysOf(asked []*stage.Role) []stage.Endpoint {
	var keys []stage.Endpoint
	for _, r := range asked {
		for _, e := range r.Endpoints {
			if e = e.Access(); e != (stage.Endpoint{}) && !slices.Contains(keys, e) {
				keys = append(keys, e)
			}
		}
	}
	return keys
}

func sinkOptions(c *config.Config, in *Input, r *config.Resolved, chain []stage.Spec) (sink.Options, error) {
	method := c.DecidedMethod()
	data, err := c.Data()
	if err != nil {
		return sink.Options{}, err
	}
	return sink.Options{
		Out: c.Output.Dir, Attempt: in.Attempt, Fence: in.Locked, Journal: JournalDir(c.Output.Dir), PrefixBits: in.Journal, Shards: Shards(c, in.Scan),
		Chain: chain, Roles: slices.Sorted(slices.Values(c.Roles)),
		Actor: r.Generate.Role, Pools: poolModels(r), MetaJudge: r.Meta.Role, Judging: r.Judge,
		Pairing: method.JudgeOptions(), Lines: in.Scan.Lines, Config: data,
	}, nil
}
