package store

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"coeval/schemas/redact"
)

var schemePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

// almostScheme matches a path with an incomplete scheme, for example s3:/bucket/name.
var almostScheme = regexp.MustCompile(`^(?i)(gs|s3|gcs|file|https?|ftp|hdfs|az|abfss?|wasbs?|dbfs|minio|r2|oss):`)

// bucketName matches the names of buckets, old ones with capitals and underscores too.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

const fileScheme = "file://"

// ParsePath returns a path in the form of the other functions. The user has typed the path, so that
// ParsePath refuses every path with a misleading meaning. It resolves file:///folder/name to
// /folder/name.
func ParsePath(name string) (string, error) {
	scheme := schemePattern.FindString(name)
	switch {
	case name == "":
		return "", errors.New("the path is empty")
	case !utf8.ValidString(name):
		return "", fmt.Errorf("the path %q is not valid UTF-8: rename it", name)
	case strings.ContainsRune(name, 0):
		return "", fmt.Errorf("the path %q contains a NUL byte", name)
	case scheme == fileScheme:
		return parseFileURL(name)
	case scheme != "" && schemes[scheme] == nil:
		return "", unknownScheme(name, scheme)
	case scheme != "":
		return parseObjectPath(name, scheme)
	case almostScheme.MatchString(name):
		kind, _, _ := strings.Cut(name, ":")
		return "", fmt.Errorf("the path %q has a scheme without two slashes: write %s://…, or ./%s for a local file of that name", name, strings.ToLower(kind), name)
	case strings.HasPrefix(name, "~"):
		return "", fmt.Errorf("the path %q begins with ~, which only a shell expands: write the folder itself, or ./%s for a local file of that name", name, name)
	}
	return name, nil
}

func unknownScheme(name, scheme string) error {
	return fmt.Errorf("%s: no files can be reached by %s: give a local path, gs://BUCKET/NAME or s3://BUCKET/NAME", name, scheme)
}

func parseFileURL(name string) (string, error) {
	u, err := url.Parse(name)
	if err != nil {
		return "", fmt.Errorf("the path %q is not a valid URL: write file:///FOLDER/NAME, or the path alone", name)
	}
	if u.Host != "" && u.Host != "localhost" || u.Path == "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsRune(u.Path, 0) || !utf8.ValidString(u.Path) {
		return "", fmt.Errorf("the path %q names no local file: write file:///FOLDER/NAME, or the path alone", name)
	}
	return u.Path, nil
}

func parseObjectPath(name, scheme string) (string, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(name, scheme), "/")
	if bucket == "" || bucket == "." || bucket == ".." {
		return "", noBucketIn(name, scheme)
	}
	if strings.ContainsAny(bucket, "@:") {
		return "", fmt.Errorf("the path %q has more than a bucket before the first slash: write %sBUCKET/NAME, and put credentials where the store's own library finds them", redact.Hide(name), scheme)
	}
	if !bucketName.MatchString(bucket) {
		return "", fmt.Errorf("the path %q has the bucket %q, and names of buckets have only letters, digits, dots, hyphens and underscores", name, bucket)
	}
	if strings.Contains(strings.TrimSuffix(key, "/"), "//") || strings.HasPrefix(key, "/") {
		return "", fmt.Errorf("the path %q has an empty part between two slashes: write %s%s/%s", name, scheme, bucket, strings.TrimPrefix(path.Clean("/"+key), "/"))
	}
	if err := checkDots(name, key); err != nil {
		return "", err
	}
	return name, nil
}

func noBucketIn(name, scheme string) error {
	return fmt.Errorf("%s: the bucket is missing; it must be %sBUCKET/NAME", name, scheme)
}

// checkDots refuses the parts "." and "..", which have no meaning in the name of an object: some
// libraries resolve them and reach another object, or another bucket.
func checkDots(name, key string) error {
	for part := range strings.SplitSeq(key, "/") {
		if part == "." || part == ".." {
			return fmt.Errorf("the path %q has a part %q, which an object store does not resolve: write the folder itself", name, part)
		}
	}
	return nil
}

// Join appends names to a folder, which may be a URL.
func Join(folder string, names ...string) string {
	below := path.Join(names...)
	if scheme := schemePattern.FindString(folder); scheme == "" {
		return path.Join(folder, below)
	}
	if below == "" {
		return strings.TrimSuffix(folder, "/")
	}
	return strings.TrimSuffix(folder, "/") + "/" + below
}

// HasLocks reports whether the operating system can lock the files of a store. A store without
// locks has [ReadVersion] and [Swap].
func HasLocks(name string) bool { return schemePattern.FindString(name) == "" }
