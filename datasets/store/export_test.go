package store

import "time"

// Forget drops the clients, so that the next call makes new ones of the environment.
func Forget() {
	for _, o := range []*once{gcs, s3Clients} {
		o.mu.Lock()
		o.made = nil
		o.mu.Unlock()
	}
}

// Hasten makes retries quick, and a silent body one that stays so for this long. It returns
// what undoes it.
func Hasten(silence time.Duration) (undo func()) {
	first, longest, was, patience := firstPause, longestPause, stalled, answered
	firstPause, longestPause, stalled, answered = time.Millisecond, 10*time.Millisecond, silence, 60*silence
	return func() { firstPause, longestPause, stalled, answered = first, longest, was, patience }
}
