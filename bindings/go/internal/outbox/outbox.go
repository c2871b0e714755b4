// Package outbox hands statuses to a reader who may be slow, or may never come.
package outbox

// Outbox is a channel whose one sender never waits. A LEADER that is unread when its term ends is taken back, so a reader
// who comes late isn't told of terms that are over. But the loss that follows a LEADER which was read is never taken out
// before it is read, and the last item stays.
type Outbox[T any] struct {
	items chan T
	leads func(T) bool
	// Whether the item said LEADER, of the items that were sent and not taken back, the latest ones: all that may be
	// unread, and the one before them.
	sent []bool
	// The latest item sent that didn't say LEADER.
	loss T
}

// Capacity is how many unread items are kept. It is reached only by a reader who has read a LEADER and not its loss: until
// that is read nothing is taken back, as the reader, coming meanwhile, could run past the loss.
const Capacity = 16

// New makes an outbox; leads tells which items say LEADER.
func New[T any](leads func(T) bool) *Outbox[T] {
	return &Outbox[T]{items: make(chan T, Capacity), leads: leads}
}

// Items is what the reader reads.
func (o *Outbox[T]) Items() <-chan T { return o.items }

// Put sends an item. One goroutine at a time may put.
func (o *Outbox[T]) Put(item T) {
	count := len(o.items)
	unread := o.sent[len(o.sent)-count:]
	switch {
	case count > 0 && unread[count-1] && !o.owesLoss(unread):
		if taken, whole := o.takeBack(count); whole {
			o.sendLosses(taken)
		} // else it is being read, and who has read the LEADER needs nothing of before
	case count == Capacity:
		leading := unread[count-1]
		if taken, whole := o.takeBack(count); whole {
			o.sendLosses([]T{taken[0], taken[count-1]})
		} else if o.leads(item) && !leading {
			o.send(o.loss) // Whichever LEADER was read, its loss comes before this one, if need be twice.
		}
	}
	o.send(item)
}

// Close ends the channel; what is unread can still be read.
func (o *Outbox[T]) Close() { close(o.items) }

// Whether a LEADER was read and the first unread item is its loss.
func (o *Outbox[T]) owesLoss(unread []bool) bool {
	before := len(o.sent) - len(unread) - 1
	return before >= 0 && o.sent[before] && !unread[0]
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
	leads := o.leads(item)
	if !leads {
		o.loss = item
	}
	o.sent = append(o.sent, leads)
	if extra := len(o.sent) - Capacity - 1; extra > 0 {
		o.sent = append(o.sent[:0], o.sent[extra:]...)
	}
	o.items <- item
}
