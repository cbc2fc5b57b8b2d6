package segment

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
	PinPrefix     = "p-"
	segmentPrefix = "s-"
	Suffix        = ".jsonl.zst"
)

// digestLength is the number of hexadecimal digits of the digests in names.
const digestLength = 32

// Digest returns the digest of a file, as it stands in names.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:digestLength/2])
}

// DigestIn returns the digest that the name of a segment ends in.
func DigestIn(base string) (string, bool) {
	stem := strings.TrimSuffix(base, Suffix)
	digest := stem[strings.LastIndexByte(stem, '-')+1:]
	_, err := hex.DecodeString(digest)
	return digest, err == nil && len(digest) == digestLength
}

// IsAppendable reports whether a name belongs to a segment that grows frame by frame. Only there may a
// crash leave a part of a frame.
func IsAppendable(base string) bool {
	name, ok := strings.CutPrefix(strings.TrimSuffix(base, Suffix), segmentPrefix)
	return ok && len(name) == len(uuid.Nil.String())
}

// IsPart reports whether a segment's name belongs to a part.
func IsPart(base string) bool { return strings.Contains(strings.TrimSuffix(base, Suffix), ".") }

// NewName returns the name of a new segment, without its ending. Names sort by their time.
func NewName() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("journal: name a segment: %w", err)
	}
	return segmentPrefix + id.String(), nil
}

// pinStamp is the length of the time in the name of a pin.
const pinStamp = 16

// NewPin returns the beginning of the name of a new pin. The newest pin sorts first.
func NewPin() string {
	return fmt.Sprintf("%s%0*x", PinPrefix, pinStamp, ^uint64(time.Now().UnixNano()))
}

// segmentName matches the names of segments: an appended one, a part, a compacted one or a pin. Apart
// from views, a journal reads and removes no other files in a journal's folders.
var segmentName = regexp.MustCompile(`^[sp]-[0-9a-f][0-9a-f.-]*\.jsonl\.zst$`)

// IsName reports whether a file is a segment, by its name.
func IsName(base string) bool { return segmentName.MatchString(base) }

// MergedStem returns the beginning of the name of the file that replaces several files, given the name
// of the first of them. It sorts directly before that file, or beside it when that is a merged one.
func MergedStem(first string) string {
	stem := strings.TrimSuffix(first, Suffix)
	length := len(segmentPrefix) + len(uuid.Nil.String())
	if strings.HasPrefix(first, PinPrefix) {
		length = len(PinPrefix) + pinStamp
	}
	return stem[:min(length, len(stem))]
}
