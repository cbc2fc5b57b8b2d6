package shards

import (
	"fmt"
	"strings"

	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// A File is an entry for a shard in the card and the manifest.
type File struct {
	// Path is a result of [Path].
	Path string
	Info
}

// Card has the facts about a run in its dataset card.
type Card struct {
	// Actor and Judge are the files of the two kinds of pair, in the order of their paths. Loaders
	// do not see a kind without rows.
	Actor, Judge []File
	// The models of each role, with their revisions. A role without a model is omitted.
	ActorModel, JudgeModel, MetaJudgeModel string
	// Rows of the raw tables and of the failures.
	Prompts, Responses, Judgments, Comparisons, Failures int64
	// Reads counts the rows of the table of reads, 0 in a run without.
	Reads int64
	// Simulated reports whether the simulated worker answered.
	Simulated bool
	// RunSHA256 is the digest of run.json; empty omits it.
	RunSHA256 string
}

// Markdown returns the text of README.md: a YAML header for the loaders of Hugging Face, and a page for
// people. It depends on c alone.
//
// The header has one config for each kind of pair with rows, none of them the default, because a tool
// that cannot name a config would otherwise train on the wrong one. Each config's description has a
// digest of its files. The datasets library caches a local folder under its last name and this header,
// and would otherwise return the rows of another run.
func (c Card) Markdown() []byte {
	var b strings.Builder
	configs := c.configs()
	c.writeHeader(&b, configs)
	b.WriteString(cardIntro)
	if c.Simulated {
		b.WriteString(cardSimulated)
	}
	c.writeCounts(&b)
	writeLoading(&b, configs)
	b.WriteString(cardLicence)
	return []byte(b.String())
}

// A config is a kind of pair with rows.
type config struct {
	table  Table
	rows   int64
	digest string
}

func (c Card) configs() []config {
	var configs []config
	for _, kind := range []struct {
		table Table
		files []File
	}{{Actor, c.Actor}, {Judge, c.Judge}} {
		found := config{table: kind.table}
		var parts []string
		for _, f := range kind.files {
			found.rows += f.Rows
			parts = append(parts, f.Path, f.SHA256)
		}
		if found.rows > 0 {
			found.digest = schemas.Digest(parts...)
			configs = append(configs, found)
		}
	}
	return configs
}

func (c Card) writeHeader(b *strings.Builder, configs []config) {
	b.WriteString("---\n")
	if len(configs) > 0 {
		b.WriteString("configs:\n")
	}
	kind := "pairs"
	if c.Simulated {
		kind = "simulated pairs"
	}
	for _, found := range configs {
		fmt.Fprintf(b, "- config_name: %s\n  description: %d %s, digest %s\n", found.table, found.rows, kind, found.digest)
		fmt.Fprintf(b, "  data_files:\n  - split: train\n    path: %s/train-*.parquet\n", found.table)
	}
	b.WriteString("tags:\n- preference\n- dpo\n- meta-rewarding\n---\n")
}

const cardIntro = `# Preference pairs for a model and its judge

Made by Coeval with Meta-Rewarding ([arXiv 2407.19594](https://arxiv.org/abs/2407.19594)): the actor
answers each prompt several times, the judge scores every answer by a rubric, and a meta-judge
compares the judgments of the answer that the judge is least sure of. An **actor** pair holds two answers
to a prompt, a **judge** pair two judgments of an answer.

`

// CardSimulated begins the warning in the card of simulated data.
const CardSimulated = "**This data is simulated.**"

const cardSimulated = CardSimulated + ` Its texts come from Coeval's simulated worker and mean nothing: no model
was asked. Don't train on it.

`

func (c Card) writeCounts(b *strings.Builder) {
	b.WriteString("| role | model |\n| --- | --- |\n")
	for _, role := range [][2]string{{"actor", c.ActorModel}, {"judge", c.JudgeModel}, {"meta-judge", c.MetaJudgeModel}} {
		if role[1] != "" {
			fmt.Fprintf(b, "| %s | %s |\n", role[0], codeCell(role[1]))
		}
	}
	b.WriteString("\n| table | rows | what a row is |\n| --- | --- | --- |\n")
	type line struct {
		table Table
		rows  int64
		what  string
	}
	lines := []line{
		{Actor, countRows(c.Actor), "a pair of answers: `prompt`, `chosen`, `rejected` as lists of `role` and `content`"},
		{Judge, countRows(c.Judge), "a pair of judgments, with the same columns; `prompt` is the request that the judge received"},
		{Prompts, c.Prompts, "a prompt, and how it ended for each role"},
		{Responses, c.Responses, "an answer, with the mean and variance of its scores"},
		{Judgments, c.Judgments, "a judgment, with its score or the reason why there is none"},
		{Comparisons, c.Comparisons, "a verdict of the meta-judge on two judgments in one order"},
		{Failures, c.Failures, "a line of the input or a call that could not go on"},
	}
	if c.Reads > 0 {
		lines = append(lines, line{Reads, c.Reads, "the probabilities of a score or a comparison of one token"})
	}
	for _, table := range lines {
		fmt.Fprintf(b, "| `%s` | %d | %s |\n", table.table, table.rows, table.what)
	}
	b.WriteString("\n`chosen_id` and `rejected_id` name rows of `raw/responses` (actor) or `raw/judgments` (judge). Scores are rubric points.\n")
	b.WriteString("`run.json` holds the settings, the counts and the SHA-256 of every file.")
	if c.RunSHA256 != "" {
		fmt.Fprintf(b, " Its own SHA-256 is `%s`.", c.RunSHA256)
	}
	b.WriteString("\n\n")
}

func countRows(files []File) int64 {
	var rows int64
	for _, f := range files {
		rows += f.Rows
	}
	return rows
}

func writeLoading(b *strings.Builder, configs []config) {
	if len(configs) == 0 {
		b.WriteString("There are no pairs to load.\n\n")
		return
	}
	b.WriteString("## Loading\n\nWith `datasets`, where PATH is this folder:\n\n```python\nfrom datasets import load_dataset\n\n")
	for _, c := range configs {
		fmt.Fprintf(b, "%s = load_dataset(\"PATH\", \"%s\", split=\"train\")\n", c.table, c.table)
	}
	b.WriteString("```\n\nWith TRL:\n\n```sh\n")
	for _, c := range configs {
		fmt.Fprintf(b, "trl dpo --dataset_name PATH --dataset_config %s --max_length 8192 …\n", c.table)
	}
	b.WriteString("```\n\n")
	b.WriteString("Set `max_length` so that the longest prompt and answer fit: TRL's default of 1,024 tokens drops pairs with a\n" +
		"longer prompt and cuts longer answers, and says nothing. The prompt of a judge pair holds rubric, question and answer.\n\n")
}

const cardLicence = `## Licence

None is set here. It follows from the licence of the prompts and the terms of the models: add ` + "`license:`" + ` to
the header before you publish this dataset.
`

// codeCell shows a name of any characters as code in a table.
func codeCell(name string) string {
	return "`" + strings.NewReplacer("`", "'", "|", `\|`).Replace(sanitize.Line(name)) + "`"
}
