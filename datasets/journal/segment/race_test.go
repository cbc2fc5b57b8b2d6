//go:build race

package segment

func init() { pooled = false }
