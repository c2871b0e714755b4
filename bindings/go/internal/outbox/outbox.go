// Package outbox hands statuses to a reader who may be slow, or may never come.
package outbox

import "sync"

// Outbox is a channel whose one sender never waits. A LEADER that is unread when its term ends is taken back, so a reader
// who comes late isn't told of terms that are over. But the loss that follows a LEADER which was read is never taken out
// before it is read, and the last item stays.
type Outbox[T any] struct {
	items chan T
	leads func(T) bool

	mu sync.Mutex
	// Whether the item said LEADER, of the items that were sent and not taken back, the latest ones: all that may be
	// unread, and the one before them.
	sent []bool
	// What waits for room in the channel. While there is any, a goroutine offers the first of them.
	late   []T
	closed bool
}

// Capacity is how many unread items the channel holds. It is reached only by a reader who has read a LEADER and then stops
// reading for some terms.
const Capacity = 16

// keptLate is how many more wait then.
const keptLate = 4

// New makes an outbox; leads tells which items say LEADER.
func New[T any](leads func(T) bool) *Outbox[T] {
	return &Outbox[T]{items: make(chan T, Capacity), leads: leads}
}

// Items is what the reader reads.
func (o *Outbox[T]) Items() <-chan T { return o.items }

// Put sends an item. One goroutine at a time may put.
func (o *Outbox[T]) Put(item T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.late) > 0 {
		o.putLate(item)
		return
	}
	count := len(o.items)
	unread := o.sent[len(o.sent)-count:]
	switch full := count == Capacity; {
	case count == 0:
	case o.owesLoss(unread):
		if full {
			o.late = []T{item}
			go o.sendLate()
			return
		}
	case unread[count-1]:
		if taken, whole := o.takeBack(count); whole {
			o.sendLosses(taken)
		} // else it is being read, and who has read the LEADER needs nothing of before
	case full:
		if taken, whole := o.takeBack(count); whole {
			o.sendLosses([]T{taken[0], taken[count-1]})
		} // else the reader is there, and has read a loss
	}
	o.send(item)
}

// Close ends the channel; what is unread can still be read.
func (o *Outbox[T]) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if len(o.late) == 0 {
		close(o.items)
	}
}

// Whether one of the unread items may be the loss of a LEADER that was read, or that could be read while they are taken
// back: then they stay, since the reader, coming meanwhile, could run past the loss to the next LEADER.
func (o *Outbox[T]) owesLoss(unread []bool) bool {
	before := len(o.sent) - len(unread) - 1
	if before >= 0 && o.sent[before] && !unread[0] {
		return true
	}
	for _, leads := range unread[:len(unread)-1] {
		if leads {
			return true
		}
	}
	return false
}

// Takes back what is unread, at most count items; not the whole of it if the reader reads at the same time.
func (o *Outbox[T]) takeBack(count int) (taken []T, whole bool) {
	for {
		select {
		case item := <-o.items:
			taken = append(taken, item)
			continue
		default:
		}
		break
	}
	o.sent = o.sent[:len(o.sent)-count]
	whole = len(taken) == count
	if !whole {
		o.sent = append(o.sent, true) // It may have been a LEADER that was read.
	}
	return taken, whole
}

func (o *Outbox[T]) sendLosses(items []T) {
	for _, item := range items {
		if !o.leads(item) {
			o.send(item)
		}
	}
}

func (o *Outbox[T]) send(item T) {
	o.note(item)
	o.items <- item
}

func (o *Outbox[T]) note(item T) {
	o.sent = append(o.sent, o.leads(item))
	if extra := len(o.sent) - Capacity - 1; extra > 0 {
		o.sent = append(o.sent[:0], o.sent[extra:]...)
	}
}

// The first of those that wait is being offered, and stays; of the others a LEADER goes when its term ends.
func (o *Outbox[T]) putLate(item T) {
	if last := len(o.late) - 1; last > 0 && o.leads(o.late[last]) {
		o.late = o.late[:last]
	}
	if len(o.late) == keptLate {
		o.late = []T{o.late[0], o.late[keptLate-1]}
	}
	o.late = append(o.late, item)
}

// Sends what waits, as the reader makes room.
func (o *Outbox[T]) sendLate() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.late) > 0 {
		first := o.late[0]
		o.mu.Unlock()
		o.items <- first
		o.mu.Lock()
		o.note(first)
		o.late = o.late[1:]
	}
	if o.closed {
		close(o.items)
	}
}
