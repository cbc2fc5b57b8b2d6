package simulator

import (
	"container/list"

	"github.com/cespare/xxhash/v2"

	"coeval/schemas"
	"coeval/transforms/simulator/world"
)

// blockTokens is the size of a block of the prefix cache in tokens, as in vLLM.
const blockTokens = 16

// prefixCache is a server's cache of prompts. Each block has the hash of its own tokens and of all
// tokens before it. The least recently used block is evicted first.
type prefixCache struct {
	maxBlocks int // blocks
	recent    *list.List
	blocks    map[uint64]*list.Element
}

func newPrefixCache(tokens int) *prefixCache {
	return &prefixCache{maxBlocks: tokens / blockTokens, recent: list.New(), blocks: map[uint64]*list.Element{}}
}

// serve returns how many tokens at the start of the messages are cached, and caches all of them.
func (c *prefixCache) serve(messages []schemas.Message) (cached int) {
	const size = 4 * blockTokens // bytes
	hit := true
	block := make([]byte, 0, size)
	hash := uint64(0)
	var hashes []uint64
	add := func(s string) {
		for s != "" {
			n := min(size-len(block), len(s))
			block, s = append(block, s[:n]...), s[n:]
			if len(block) == size {
				hash = world.Mix(hash ^ xxhash.Sum64(block))
				hashes, block = append(hashes, hash), block[:0]
			}
		}
	}
	for i := range messages {
		add(messages[i].Role)
		add(messages[i].Content)
	}
	for _, h := range hashes {
		if e := c.blocks[h]; e != nil {
			c.recent.MoveToFront(e)
			if hit {
				cached += blockTokens
			}
			continue
		}
		hit = false
		c.blocks[h] = c.recent.PushFront(h)
	}
	for c.recent.Len() > c.maxBlocks {
		last := c.recent.Back()
		delete(c.blocks, last.Value.(uint64))
		c.recent.Remove(last)
	}
	return cached
}
