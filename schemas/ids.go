package schemas

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"slices"
	"strconv"

	"github.com/google/uuid"
)

// The name spaces of Coeval's version 5 UUIDs, each derived from the project's name.
var (
	rootSpace       = uuid.NewSHA1(uuid.NameSpaceURL, []byte("coeval"))
	promptSpace     = uuid.NewSHA1(rootSpace, []byte("prompt"))
	responseSpace   = uuid.NewSHA1(rootSpace, []byte("response"))
	judgmentSpace   = uuid.NewSHA1(rootSpace, []byte("judgment"))
	comparisonSpace = uuid.NewSHA1(rootSpace, []byte("comparison"))
	readSpace       = uuid.NewSHA1(rootSpace, []byte("read"))
	pairSpace       = uuid.NewSHA1(rootSpace, []byte("pair"))
)

// PromptID returns the ID of a conversation. It depends on the messages alone.
func PromptID(messages []Message) string {
	parts := make([]string, 0, 2*len(messages))
	for _, m := range messages {
		parts = append(parts, m.Role, m.Content)
	}
	return newID(promptSpace, parts...)
}

// ResponseID returns the ID of a response. Model is the one that wrote it, with its revision.
func ResponseID(promptID, model, text string) string {
	return newID(responseSpace, promptID, model, text)
}

// JudgmentID returns the ID of a judgment. Judge is the model that wrote it, with its revision.
func JudgmentID(responseID, judge string, replicate int, text string) string {
	return newID(judgmentSpace, responseID, judge, strconv.Itoa(replicate), text)
}

// ReadID returns the ID of a read of a response. Judge is the model that was read, with its revision.
func ReadID(responseID, judge string, replicate int) string {
	return newID(readSpace, responseID, judge, strconv.Itoa(replicate))
}

// ComparisonID returns the ID of the comparison of two judgments in one order.
func ComparisonID(firstID, secondID, metaJudge string) string {
	return newID(comparisonSpace, firstID, secondID, metaJudge)
}

// PairID returns the ID of a role's pair.
func PairID(role, chosenID, rejectedID string) string {
	return newID(pairSpace, role, chosenID, rejectedID)
}

// newID hashes the parts, each with its length before it, so that different lists differ.
func newID(space uuid.UUID, parts ...string) string {
	return uuid.NewSHA1(space, AppendParts(nil, parts...)).String()
}

// AppendParts appends the parts to b, each with its length before it. Two lists of
// parts give the same bytes only when they are equal.
func AppendParts(b []byte, parts ...string) []byte {
	size := 0
	for _, p := range parts {
		size += len(p) + binary.MaxVarintLen32
	}
	b = slices.Grow(b, size)
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	return b
}

// Digest returns 128 bits of the SHA-256 of the parts, in hex.
func Digest(parts ...string) string {
	var few [512]byte // on the stack
	sum := sha256.Sum256(AppendParts(few[:0], parts...))
	return hex.EncodeToString(sum[:16])
}

// Spread returns evenly spread bits of an ID, in the order of the IDs themselves: buckets and
// shards are ranges of it, and so ranges of prompt IDs. The leading 48 bits of a version 5 UUID
// are bits of a hash; of another string it takes the hash.
func Spread(id string) uint64 {
	if u, err := uuid.Parse(id); err == nil {
		return binary.BigEndian.Uint64(u[:8]) &^ 0xffff
	}
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(sum[:8]) &^ 0xffff
}

// Shard returns which of n equal ranges of Spread an ID falls in.
func Shard(id string, n int) int {
	high, _ := bits.Mul64(Spread(id), uint64(n))
	return int(high)
}
