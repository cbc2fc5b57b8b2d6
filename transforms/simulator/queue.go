package simulator

import "time"

// A queue is the batch of a server: slots that run one choice each, and choices that wait for a slot
// in order of arrival. All durations are known on arrival, so that the queue fixes each choice's
// start and end at once and needs no timer. Times count from the server's start.
type queue struct {
	// free has for each slot the time from which it is free, as a heap.
	free []span
	// unfinished has the choices that have not ended, as a heap.
	unfinished []span
	// starts has the start times of the waiting choices. They are sorted: no choice starts before an
	// earlier one.
	starts []time.Duration
	// busy is the sum of the durations of all choices so far, waited the sum of their waiting times.
	busy, waited time.Duration
	maxWaiting   int
	// lastEnd is the end of the last finished choice.
	lastEnd time.Duration
}

// A span is the time of a choice in its slot.
type span struct{ end, start time.Duration }

func newQueue(slots int) *queue { return &queue{free: make([]span, slots)} }

// advance removes the choices that ended before now.
func (q *queue) advance(now time.Duration) {
	i := 0
	for i < len(q.starts) && q.starts[i] <= now {
		i++
	}
	q.starts = q.starts[i:]
	for len(q.unfinished) > 0 && q.unfinished[0].end <= now {
		q.lastEnd = q.unfinished[0].end
		last := len(q.unfinished) - 1
		q.unfinished[0] = q.unfinished[last]
		q.unfinished = q.unfinished[:last]
		sink(q.unfinished)
	}
}

// admit adds choices of these durations and returns the end of the last one.
func (q *queue) admit(now time.Duration, durations []time.Duration) (end time.Duration) {
	q.advance(now)
	for _, d := range durations {
		s := span{start: max(now, q.free[0].end)}
		s.end = s.start + d
		q.free[0] = s
		sink(q.free)
		q.unfinished = append(q.unfinished, s)
		rise(q.unfinished)
		if s.start > now {
			q.starts = append(q.starts, s.start)
		}
		q.busy += d
		q.waited += s.start - now
		end = max(end, s.end)
	}
	q.maxWaiting = max(q.maxWaiting, len(q.starts))
	return end
}

// counts returns the numbers of running and of waiting choices at now.
func (q *queue) counts(now time.Duration) (running, waiting int) {
	q.advance(now)
	return len(q.unfinished) - len(q.starts), len(q.starts)
}

// ahead returns the slot time and the waiting time that the sums include but that lie after now.
func (q *queue) ahead(now time.Duration) (busy, waited time.Duration) {
	q.advance(now)
	for _, s := range q.unfinished {
		busy += s.end - max(s.start, now)
	}
	for _, start := range q.starts {
		waited += start - now
	}
	return busy, waited
}

// reset sets the sums to zero at now. Unfinished choices count from now on.
func (q *queue) reset(now time.Duration) {
	q.busy, q.waited = q.ahead(now)
	q.maxWaiting = len(q.starts)
	q.lastEnd = 0
}

// sink restores the heap order after the first element has grown.
func sink(h []span) {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if right := child + 1; right < len(h) && h[right].end < h[child].end {
			child = right
		}
		if h[i].end <= h[child].end {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// rise restores the heap order after an append.
func rise(h []span) {
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent].end <= h[i].end {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}
