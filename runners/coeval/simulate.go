package main

import (
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
)

func newSimulateCommand() *cobra.Command {
	var o simulator.Options
	var worldName, faults, weights string
	var seed uint64
	var bend, discrimination, readMass, readNoise float64
	c := &cobra.Command{
		Use:   "simulate [flags]",
		Short: "Serve the simulated worker: an OpenAI-compatible server without a model",
		Long: `Serve the simulated worker: an OpenAI-compatible server without a model, with a hidden truth.
GET /stats reports its load, GET /truth the hidden truth.`,
		Example: `  coeval simulate
  coeval simulate --addr 127.0.0.1:9000 --slots 64 --latency 100ms --fault 503=0.02`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w, err := world.Named(worldName)
			if err != nil {
				return usage(err)
			}
			if !isListenAddress(o.Addr) {
				return usage(fmt.Errorf("--addr is %q; give an address with a port, for example 127.0.0.1:8008", o.Addr))
			}
			w.Seed, w.JudgeBend = seed, bend
			w.ReadLoss, w.ReadOther, w.ReadNoise = 1-discrimination, 1-readMass, readNoise
			o.World = &w
			if o.Faults, err = simulator.ParseFaults(faults); err != nil {
				return usage(err)
			}
			if err := o.Validate(); err != nil {
				return usage(err)
			}
			if o.Skill, err = skillAt(weights); err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			if err := serveSimulated(c, o); err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			return nil
		},
	}
	c.AddCommand(newSimulateTrainCommand())
	f := c.Flags()
	f.StringVar(&o.Addr, "addr", "127.0.0.1:8008", "address to listen on")
	f.IntVar(&o.Slots, "slots", 256, "choices that it generates at a time")
	f.DurationVar(&o.Latency, "latency", 20*time.Millisecond, "mean time of a choice, lognormal; 0 answers at once")
	f.Float64Var(&o.Sigma, "sigma", 0.8, "standard deviation of the logarithm of that time; negative gives all choices the mean")
	f.Float64Var(&o.PrefillRate, "prefill-rate", 0, "prompt tokens a second, instead of --latency")
	f.Float64Var(&o.DecodeRate, "decode-rate", 0, "completion tokens a second of a slot, instead of --latency")
	f.IntVar(&o.CacheTokens, "cache-tokens", 0, "size of a prefix cache; 0 is none")
	f.Uint64Var(&seed, "seed", 0, "seed of the hidden truth")
	f.StringVar(&worldName, "world", "moderate", "quality of its judges: mild, moderate, noisy, bad")
	f.Float64Var(&bend, "judge-bend", 0, "distort the judge's scale: x points become 5·(x/5)^(2^BEND); -4 to 4")
	f.Float64Var(&discrimination, "read-discrimination", 1, "discrimination of reads, relative to 1 for reasoned verdicts; 0 to 1")
	f.Float64Var(&readMass, "read-mass", 1, "probability of a read's labels together; 0 to 1")
	f.Float64Var(&readNoise, "read-noise", 0, "standard deviation of a read's own error, in logits for comparisons and points for scores")
	f.BoolVar(&o.FreshTexts, "fresh-texts", false, "answer each repetition of a request with another text")
	f.BoolVar(&o.Record, "record", false, "remember the texts of requests, for POST /sent")
	f.StringVar(&faults, "fault", "", "faults to inject, for example 429=0.1,reset=0.02")
	f.Uint64Var(&o.FaultSeed, "fault-seed", 0, "seed that decides which request gets which fault")
	f.IntVar(&o.MaxN, "max-n", 0, "largest number of choices in a request; 0 means 1024")
	f.IntVar(&o.MaxQueue, "max-queue", 0, "largest number of waiting choices; 0 means no limit")
	f.IntVar(&o.FullStatus, "full-status", 503, "status of requests beyond --max-queue: 503 or 429")
	f.DurationVar(&o.RetryAfter, "retry-after", 0, "Retry-After of requests beyond --max-queue, in whole seconds")
	f.IntVar(&o.ContextTokens, "context-tokens", 0, "largest number of tokens in a request; 0 means no limit")
	f.StringVar(&o.Dialect, "dialect", "vllm", "server to imitate in metrics, errors and constraints: vllm, sglang, llamacpp, none")
	f.BoolVar(&o.IgnoreConstraints, "ignore-constraints", false, "ignore fields that constrain the output, as some servers do")
	f.StringVar(&o.APIKey, "api-key", "", "bearer token that requests must carry")
	f.StringSliceVar(&o.Models, "served-model", nil, "names that /v1/models lists (repeatable)")
	f.BoolVar(&o.Adapters, "adapters", false, "load adapters from folders of this machine at POST /v1/load_lora_adapter")
	f.StringVar(&weights, "weights", "", "absolute path of an adapter for all served models; with a model name instead, the models have no adapter")
	f.BoolVar(&o.Strict, "strict", false, "answer 404 to other models")
	return c
}

// serveSimulated serves until a signal ends it.
func serveSimulated(c *cobra.Command, o simulator.Options) error {
	server, err := simulator.Start(o)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", server.URL()); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return server.Close()
}
