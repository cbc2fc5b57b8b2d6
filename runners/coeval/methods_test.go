package main

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coeval/runners/loop/methods"
)

var (
	methodSeeds  = flag.Int("method-seeds", 0, "seeds of the comparison of methods; 0 makes a small one")
	methodDir    = flag.String("method-dir", "", "folder of the loops of the comparison, so that it goes on where it was interrupted")
	methodNames  = flag.String("method-names", "", "variants of the comparison, with commas; empty takes all")
	methodPrints = flag.Bool("method-prints", false, "write table and picture of the comparison into docs")
)

// The marks around the table of the comparison in docs/iterations.md.
const (
	methodsBegin = "<!-- methods: made by make loop-simulated -->\n"
	methodsEnd   = "<!-- end of methods -->\n"
)

// Loops of the program show under our rule that the claims of docs/iterations.md hold. Without -method-seeds it is a small
// comparison, of which only the directions are checked: two seeds cannot carry intervals.
func TestMethods(t *testing.T) {
	o := methods.Options{
		Program: program, Dir: t.TempDir(), Variants: methods.Variants(), Seeds: *methodSeeds, Compared: 3, Longest: 5,
		Prompts: 120, Pairs: 100, Evaluated: 120, Labels: 150, Parallel: 2, Say: t.Logf,
	}
	if o.Seeds == 0 {
		smallMethods(t, o)
		return
	}
	if *methodDir != "" {
		o.Dir = *methodDir
	}
	if names := strings.Split(*methodNames, ","); *methodNames != "" {
		o.Variants = slices.DeleteFunc(o.Variants, func(v methods.Variant) bool { return !slices.Contains(names, v.Name) })
	}
	all, err := methods.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	table := methods.Table(all, o.Variants, o.Compared)
	t.Logf("%d seeds:\n%s", o.Seeds, table)
	for _, c := range methods.Claims(all, o.Compared) {
		t.Logf("%s %s. Holds: %v", c.Statement, c.Evidence, c.Holds)
		if !c.Holds {
			t.Errorf("it does not hold: %s %s", c.Statement, c.Evidence)
		}
	}
	picture, err := methods.Picture(all, o.Variants, o.Compared)
	if err != nil {
		t.Fatal(err)
	}
	if *methodPrints {
		writeMethods(t, table, picture)
	}
}

// writeMethods puts the table and the picture into the pages.
func writeMethods(t *testing.T, table string, picture []byte) {
	t.Helper()
	const docs = "../../docs"
	name := filepath.Join(docs, "iterations.md")
	before, rest, ok := strings.Cut(readFile(t, name), methodsBegin)
	_, after, closed := strings.Cut(rest, methodsEnd)
	if !ok || !closed {
		t.Fatalf("%s lacks the marks of the table", name)
	}
	write(t, name, before+methodsBegin+"\n"+table+"\n"+methodsEnd+after)
	if err := os.WriteFile(filepath.Join(docs, "images", "loop-simulated.svg"), picture, 0o600); err != nil {
		t.Fatal(err)
	}
}

// smallMethods compares four variants over one seed and two iterations of 24 prompts.
func smallMethods(t *testing.T, o methods.Options) {
	t.Helper()
	t.Parallel()
	o.Variants = nil
	for _, v := range methods.Variants() {
		switch v.Name {
		case methods.Meta, methods.Static, methods.NoControl, methods.ShuffledName:
			o.Variants = append(o.Variants, v)
		}
	}
	o.Seeds, o.Compared, o.Longest, o.Prompts, o.Pairs, o.Evaluated, o.Labels = 1, 2, 2, 24, 20, 20, 20
	all, err := methods.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]methods.Point{}
	for _, outcome := range all {
		if len(outcome.Points) != 2 || outcome.ActorPairs == 0 {
			t.Fatalf("%s did not run: %+v", outcome.Variant, outcome)
		}
		by[outcome.Variant] = outcome.Points[1]
	}
	meta, static := by[methods.Meta].Skill, by[methods.Static].Skill
	// Of 40 pairs, 40 true gaps have a mean of about 0.9 ± 0.1 points for the actor, and of 1 ± 0.2 for the judge:
	// each is many standard errors above 0.
	if meta.Quality <= 0 || meta.Noise >= 0 || static.Quality <= 0 {
		t.Errorf("the meta-judge leads to %+v, the static judge to %+v", meta, static)
	}
	if static.Noise != 0 {
		t.Errorf("the static judge learned: %+v", static)
	}
	if noise := by[methods.ShuffledName].Skill.Noise; noise <= meta.Noise/2 {
		t.Errorf("shuffled labels changed the judge by %.3f, true ones by %.3f", noise, meta.Noise)
	}
	if long := by[methods.NoControl].Skill.Length; long <= meta.Length {
		t.Errorf("without length control length moved by %.3f, with it by %.3f", long, meta.Length)
	}
}
