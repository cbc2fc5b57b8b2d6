package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The prefixes and endings of names. Pins sort before all other segments.
const (
	pinPrefix     = "p-"
	segmentPrefix = "s-"
	segmentSuffix = ".jsonl.zst"
	viewSuffix    = ".view.json"
)

// digestLength is the number of hexadecimal digits of the digests in names.
const digestLength = 32

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:digestLength/2])
}

// digestIn returns the digest that the name of a segment ends in.
func digestIn(base string) (string, bool) {
	stem := strings.TrimSuffix(base, segmentSuffix)
	digest := stem[strings.LastIndexByte(stem, '-')+1:]
	_, err := hex.DecodeString(digest)
	return digest, err == nil && len(digest) == digestLength
}

// isAppendable reports whether a name is that of a segment that grows frame by frame. Only there may a
// crash leave a part of a frame.
func isAppendable(base string) bool {
	name, ok := strings.CutPrefix(strings.TrimSuffix(base, segmentSuffix), segmentPrefix)
	return ok && len(name) == len(uuid.Nil.String())
}

// isPart reports whether the name of a segment is that of a part.
func isPart(base string) bool { return strings.Contains(strings.TrimSuffix(base, segmentSuffix), ".") }

// newSegment returns the name of a new segment, without its ending. Names sort by their time.
func newSegment() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("journal: name a segment: %w", err)
	}
	return segmentPrefix + id.String(), nil
}

// pinStamp is the length of the time in the name of a pin.
const pinStamp = 16

// newPin returns the beginning of the name of a new pin. The newest pin sorts first.
func newPin() string {
	return fmt.Sprintf("%s%0*x", pinPrefix, pinStamp, ^uint64(time.Now().UnixNano()))
}

// segmentName matches the names of segments: an appended one, a part, a compacted one or a pin. Apart
// from views, the package reads and removes no other files in a journal's folders.
var segmentName = regexp.MustCompile(`^[sp]-[0-9a-f][0-9a-f.-]*\.jsonl\.zst$`)

func isSegment(base string) bool { return segmentName.MatchString(base) }

var viewName = regexp.MustCompile(`^[0-9a-f]{32}\.view\.json$`)

func isView(base string) bool { return viewName.MatchString(base) }
