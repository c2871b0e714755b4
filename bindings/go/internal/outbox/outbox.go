// Package outbox hands statuses to a reader who may be slow, or may never come.
package outbox

import (
	"sync"
	"time"
)

// Outbox is a channel whose one sender never waits. A LEADER that is unread when its term ends is taken back, so a reader
// who comes late isn't told of terms that are over. But the loss that follows a LEADER which was read is never taken out
// before it is read, and the last item stays.
//
// So behind a loss that is owed to the reader there must be no LEADER in the channel, as it could not be taken back past
// the loss. Such a LEADER is held outside until the loss has been read.
type Outbox[T any] struct {
	items chan T
	leads func(T) bool

	mu sync.Mutex
	// The last item that was sent says LEADER; it may have been read.
	leading bool
	// An earlier LEADER of the same term was read.
	told bool
	// How many items were sent from the loss on that the reader is owed; 0 where none is, as far as was looked.
	owed int
	// What waits until the loss has been read: the newest item, or nil.
	held *T
	// A goroutine looks whether what is held can be sent.
	watched bool
	closed  chan struct{}
}

// Capacity is how many unread items the channel holds; the last place is for an item that is held when the outbox is closed.
const Capacity = 16

// How long the goroutine waits before it looks again, at first and at most.
const (
	shortPause = time.Millisecond
	longPause  = 100 * time.Millisecond
)

// New makes an outbox; leads tells which items say LEADER.
func New[T any](leads func(T) bool) *Outbox[T] {
	return &Outbox[T]{items: make(chan T, Capacity), leads: leads, closed: make(chan struct{})}
}

// Items is what the reader reads.
func (o *Outbox[T]) Items() <-chan T { return o.items }

// Put sends an item. One goroutine at a time may put, and none after Close.
func (o *Outbox[T]) Put(item T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = nil // A LEADER of the same term, or one whose term is over; or a newer item takes the place of one too many.
	if o.mustWait(item) {
		o.held = &item
		if !o.watched {
			o.watched = true
			go o.watch()
		}
		return
	}
	if o.leading || o.full() {
		o.takeBack()
	}
	o.send(item)
}

// Close ends the channel; what is unread can still be read.
func (o *Outbox[T]) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held != nil && !o.leads(*o.held) {
		o.send(*o.held)
	}
	o.held = nil
	close(o.items)
	close(o.closed)
}

func (o *Outbox[T]) full() bool { return len(o.items) == Capacity-1 }

// Nothing that is sent is touched while a loss is owed: the reader, coming meanwhile, could miss it.
func (o *Outbox[T]) mustWait(item T) bool {
	// The loss is the first of those counted, so it was read if any of them was.
	if len(o.items) < o.owed {
		o.owed = 0
	}
	return o.owed > 0 && (o.leads(item) || o.full())
}

// Takes back a LEADER at the end of what is unread, or makes room. No loss is owed. The reader may read at the same time,
// and then have read an item behind one that was taken: what was taken is older than that, and is left out.
func (o *Outbox[T]) takeBack() {
	count := len(o.items)
	taken := o.drain()
	if o.leading {
		if last := len(taken) - 1; last >= 0 && o.leads(taken[last]) {
			taken, count = taken[:last], count-1
		} else {
			o.told = true
		}
	}
	if len(taken) < count {
		return
	}
	if count == Capacity-1 {
		taken = []T{taken[0], taken[count-1]}
	}
	for _, item := range taken {
		o.send(item)
	}
}

func (o *Outbox[T]) drain() (taken []T) {
	for {
		select {
		case item := <-o.items:
			taken = append(taken, item)
		default:
			return taken
		}
	}
}

// There is room: the channel is never full before it is closed.
func (o *Outbox[T]) send(item T) {
	o.items <- item
	o.leading = o.leads(item)
	if o.owed > 0 || o.told && !o.leading {
		o.owed++
	}
	o.told = o.told && o.leading
}

// watch sends what is held when the loss before it has been read. It looks again and again, as a channel gives no word of
// being read.
func (o *Outbox[T]) watch() {
	for pause := shortPause; ; pause = min(2*pause, longPause) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-o.closed:
			timer.Stop()
			return
		}
		if o.sendHeld() {
			return
		}
	}
}

// Tells whether nothing is held any more.
func (o *Outbox[T]) sendHeld() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held != nil {
		if o.mustWait(*o.held) {
			return false
		}
		o.send(*o.held)
		o.held = nil
	}
	o.watched = false
	return true
}
