package docs

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// ARCHITECTURE.md names every package, and names no folder or file that does not exist.
func TestArchitecture(t *testing.T) {
	files := os.DirFS(root)
	source, err := fs.ReadFile(files, "ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z][a-z0-9_./-]*)`").FindAllStringSubmatch(string(source), -1) {
		named[m[1]] = true
		if layer, _, below := strings.Cut(m[1], "/"); below && layer != "docs" {
			if _, err := fs.Stat(files, m[1]); err != nil {
				t.Errorf("ARCHITECTURE.md names %s, which does not exist", m[1])
			}
		}
	}
	packages := 0
	for _, layer := range []string{"schemas", "datasets", "transforms", "pipelines", "runners"} {
		err := fs.WalkDir(files, layer, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case !d.IsDir():
				return nil
			case d.Name() == "internal" || d.Name() == "testdata" || strings.HasSuffix(d.Name(), "test"):
				return fs.SkipDir // internal packages, and packages for tests
			}
			sources, err := fs.Glob(files, path.Join(name, "*.go"))
			if err != nil || len(sources) == 0 {
				return err
			}
			packages++
			// A package may be named in the row of its parent.
			if !named[name] && (!strings.Contains(strings.TrimPrefix(name, layer+"/"), "/") && layer != "schemas" || !named[path.Base(name)]) {
				t.Errorf("ARCHITECTURE.md does not name %s", name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if packages < 30 {
		t.Errorf("only %d packages were found", packages)
	}
}
