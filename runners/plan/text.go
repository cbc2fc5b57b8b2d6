package plan

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"coeval/datasets/journal"
)

// Print prints the calls of each stage, the storage, and the assumptions about lengths.
func (p *Plan) Print(w io.Writer) error {
	n := humanize.Comma
	fmt.Fprintf(w, "%s lines: %s prompts, %s bad, %s merged, %s not drawn; %s of the prompts are in the journal with all calls\n\n",
		n(p.Lines), n(p.Prompts), n(p.Bad), n(p.Merged), n(p.NotDrawn), n(p.Known))
	switch {
	case p.Refused != "":
		fmt.Fprintf(w, "REFUSED: %s\n\n", p.Refused)
	case p.AnsweredBy != "":
		fmt.Fprintf(w, "the journal has answers of %s\n\n", map[string]string{journal.Real: "real servers", journal.Simulated: "the simulated worker"}[p.AnsweredBy])
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "stage\tgenerations\tin the journal\tmissing\trequests\tprompt tokens\tcompletion tokens\t")
	var sum Stage
	for _, s := range p.Stages {
		printStage(t, s.Stage, s)
		sum.Generations += s.Generations
		sum.Held += s.Held
		sum.Ask += s.Ask
		sum.Requests += s.Requests
		sum.PromptTokens += s.PromptTokens
		sum.CompletionTokens += s.CompletionTokens
	}
	printStage(t, "all", sum)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nstorage: about %s of journal and %s of Parquet in %s\n", humanize.Bytes(uint64(p.JournalBytes)), humanize.Bytes(uint64(p.OutputBytes)), english.Plural(p.Shards, "shard", ""))
	_, err := fmt.Fprintf(w, "estimated at 4 characters a token, texts that become %s times smaller (%s), and these mean lengths: %s\n",
		humanize.FtoaWithDigits(p.Compression.Tables, 1), sourceOf(p.Compression.Measured), p.lengths())
	return err
}

func printStage(w io.Writer, name string, s Stage) {
	n := humanize.Comma
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", name, n(s.Generations), n(s.Held), n(s.Ask), n(s.Requests), n(s.PromptTokens), n(s.CompletionTokens))
}

// sourceOf describes where a number comes from.
func sourceOf(is bool) string {
	if is {
		return "measured in the journal"
	}
	return "assumed"
}

// lengths describes the mean lengths of the texts of each stage.
func (p *Plan) lengths() string {
	var text strings.Builder
	for i, s := range p.Stages {
		l := p.Assumed[s.Stage]
		if i > 0 {
			text.WriteString(", ")
		}
		if slices.Contains(p.Reads, s.Stage) {
			fmt.Fprintf(&text, "%s one token", s.Stage)
			continue
		}
		fmt.Fprintf(&text, "%s %d characters (%s)", s.Stage, l.Chars, sourceOf(l.Measured))
	}
	return text.String()
}
