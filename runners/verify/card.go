package verify

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"

	"coeval/datasets/journal"
	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/pipelines/metareward"
	"coeval/runners/settings" //nolint:depguard // the card's header is YAML that people may edit, which settings reads within bounds
	"coeval/runners/verify/problems"
	"coeval/schemas"
	"coeval/transforms/sink"
)

// cardFile is the name of the dataset card below a run's folder.
const cardFile = "README.md"

// cardHeader is the part of the card that dataset loaders read.
type cardHeader struct {
	Configs []cardConfig `yaml:"configs"`
}

type cardConfig struct {
	Name        string `yaml:"config_name"`
	Description string `yaml:"description"`
	Default     bool   `yaml:"default"`
	DataFiles   []struct {
		Split string `yaml:"split"`
		Path  string `yaml:"path"`
	} `yaml:"data_files"`
}

// checkCard checks that the card offers exactly the roles that have pairs, each with the digest
// of its files. People may add anything else to the card.
func (r *run) checkCard(ctx context.Context, sum *figures, found *problems.List) {
	b, err := store.ReadSmall(ctx, store.Join(r.Dir, cardFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		found.Add("%s is missing", cardFile)
		return
	case err != nil:
		found.Add("%s can't be read: %v", cardFile, err)
		return
	}
	parts := strings.SplitN(string(b), "---\n", 3)
	if len(parts) != 3 || parts[0] != "" {
		found.Add("%s does not begin with a header between two lines of ---", cardFile)
		return
	}
	var header cardHeader
	if err := settings.DecodeKnown(cardFile, []byte(parts[1]), &header); err != nil {
		found.Add("the header of %s", strings.SplitN(err.Error(), "\n", 2)[0])
		return
	}
	if r.Manifest.Simulated && !strings.Contains(strings.ToLower(parts[2]), "simulated") {
		found.Add("%s does not state that the data is simulated, but %s does", cardFile, runFile)
	}
	r.checkSimulated(ctx, parts[2], found)
	r.checkDigest(ctx, parts[2], found)
	offered := map[shards.Table]bool{}
	for i := range header.Configs {
		c := &header.Configs[i]
		name := shards.Table(c.Name)
		if offered[name] {
			found.Add("%s: config %s occurs twice", cardFile, c.Name)
		}
		offered[name] = true
		r.checkConfig(c, sum, found)
	}
	for _, name := range []shards.Table{shards.Actor, shards.Judge} {
		if rows := r.rows(name); rows > 0 && !offered[name] {
			found.Add("%s: config %s is missing, though there are %d pairs", cardFile, name, rows)
		}
	}
}

// checkSimulated reports a run that hides the simulated worker of its roles, or of the card or the journal. A
// run without simulated roles may still be simulated: `coeval simulate` is a server for other programs too.
func (r *run) checkSimulated(ctx context.Context, card string, found *problems.List) {
	if r.Manifest.Simulated {
		return
	}
	const hidden = "%s: simulated is false, should be true: %s"
	s := &r.Settings
	for _, role := range []struct {
		name  string
		world string
	}{{"actor", s.Actor.Role.Simulated}, {"judge", s.Judge.Role.Simulated}, {"meta_judge", s.MetaJudge.Role.Simulated}} {
		if role.world != "" {
			found.Add(hidden, runFile, "the simulated worker is the "+role.name+" in config")
		}
	}
	if strings.Contains(card, shards.CardSimulated) {
		found.Add(hidden, runFile, cardFile+" states that the data is simulated")
	}
	switch by, err := journal.ReadRespondent(ctx, metareward.JournalDir(r.Dir)); {
	case err != nil:
		found.Add("the journal can't be read: %v", err)
	case by.Kind == journal.Simulated:
		found.Add(hidden, runFile, "the answers of the journal are the simulated worker's")
	}
}

// checkDigest compares the digest of run.json with those in the card and in the journal. The digest
// protects the settings and counts that no other file of the folder determines. A folder without a
// journal is allowed, as of a dataset that was copied.
func (r *run) checkDigest(ctx context.Context, card string, found *problems.List) {
	digest, file := sink.RunDigest(r.JSON)
	if !strings.Contains(card, digest) {
		found.Add("%s does not contain the SHA-256 of %s, %s: %s was edited, or written by an earlier version; repeat the same coeval run command to write both again",
			cardFile, runFile, digest, runFile)
	}
	dir := metareward.JournalDir(r.Dir)
	b, err := store.ReadSmall(ctx, store.Join(dir, sink.DigestFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if files, err := store.List(ctx, dir+"/"); err == nil && len(files) > 0 {
			found.Add("journal/%s is missing: repeat the same coeval run command to write it again", sink.DigestFile)
		}
	case err != nil:
		found.Add("journal/%s can't be read: %v", sink.DigestFile, err)
	case !bytes.Equal(b, file):
		found.Add("journal/%s contains %s, should contain the SHA-256 of %s, %s: %s was edited", sink.DigestFile, problems.Show(string(b)), runFile, digest, runFile)
	}
}

func (r *run) checkConfig(c *cardConfig, sum *figures, found *problems.List) {
	name := shards.Table(c.Name)
	if r.rows(name) == 0 || name != shards.Actor && name != shards.Judge {
		found.Add("%s: config %s is offered, but there are no pairs of that role", cardFile, problems.Show(c.Name))
		return
	}
	if c.Default {
		found.Add("%s: config %s has default: true, should have no default: tools that can't name a config would train on it", cardFile, c.Name)
	}
	if want := string(name) + "/train-*.parquet"; len(c.DataFiles) != 1 || c.DataFiles[0].Path != want || c.DataFiles[0].Split != "train" {
		found.Add("%s: config %s has the data_files %v, should have the split train with %s", cardFile, c.Name, c.DataFiles, want)
	}
	var parts []string
	for number := range r.Shards {
		path := shards.Path(name, number, r.Shards)
		digest, ok := sum.digests[path]
		if !ok {
			return // checkFile reports the missing file
		}
		parts = append(parts, path, digest)
	}
	if digest := schemas.Digest(parts...); !strings.Contains(c.Description, digest) {
		found.Add("%s: description of config %s is %s, should have the digest %s of its files", cardFile, c.Name, problems.Show(c.Description), digest)
	}
}

// rows returns the number of rows of a table in run.json; finish compares it with the files.
func (r *run) rows(name shards.Table) int64 {
	var rows int64
	for number := range r.Shards {
		rows += r.files[shards.Path(name, number, r.Shards)].Rows
	}
	return rows
}
