package store

import "time"

// Forget drops the clients, so that the next call makes new ones of the environment.
func Forget() {
	for _, o := range schemes {
		o.Set(nil)
	}
}

// Hasten shortens the pauses between retries, and the time limit of a silent body to this duration. It
// returns a function that restores both.
func Hasten(silence time.Duration) (undo func()) {
	was := *patience
	patience.FirstPause, patience.LongestPause = time.Millisecond, 10*time.Millisecond
	patience.Stalled, patience.Answered, patience.Tried = silence, 60*silence, 15*silence
	return func() { *patience = was }
}
