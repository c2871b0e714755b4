package outbox

import (
	"math/rand"
	"reflect"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// What is sent: a term's number with 'L' for LEADER, 'E' for its loss, 'F' for following again, 'C' for the end.
type item struct {
	kind byte
	term int
}

func leads(i item) bool { return i.kind == 'L' }

func put(o *Outbox[item], items ...item) {
	for _, i := range items {
		o.Put(i)
	}
}

func read(o *Outbox[item]) []item {
	var got []item
	for {
		select {
		case i, ok := <-o.Items():
			if !ok {
				return got
			}
			got = append(got, i)
		default:
			return got
		}
	}
}

func next(t *testing.T, o *Outbox[item]) item {
	t.Helper()
	select {
	case i := <-o.Items():
		return i
	case <-time.After(30 * time.Second):
		t.Fatal("nothing comes")
	}
	panic("unreachable")
}

func expect(t *testing.T, got []item, want ...item) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// readLeader is an outbox whose reader has read LEADER 1.
func readLeader(t *testing.T) *Outbox[item] {
	t.Helper()
	o := New(leads)
	put(o, item{'F', 0}, item{'L', 1})
	expect(t, read(o), item{'F', 0}, item{'L', 1})
	return o
}

// expectNoMore waits for goroutines to end until there are no more than before.
func expectNoMore(t *testing.T, before int) {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func TestAllIsReadInOrder(t *testing.T) {
	o := New(leads)
	for _, i := range []item{{'F', 0}, {'L', 1}, {'E', 1}, {'F', 1}, {'L', 2}, {'C', 2}} {
		o.Put(i)
		expect(t, read(o), i)
	}
}

func TestAnUnreadLeaderWhoseTermEndsIsTakenBack(t *testing.T) {
	o := New(leads)
	put(o, item{'F', 0}, item{'L', 1}, item{'C', 1})
	expect(t, read(o), item{'F', 0}, item{'C', 1})
}

func TestOfSeveralUnreadLeadersTheNewestStays(t *testing.T) {
	o := New(leads)
	put(o, item{'F', 0}, item{'L', 1}, item{'L', 2}, item{'L', 3})
	expect(t, read(o), item{'F', 0}, item{'L', 3})
}

func TestALossThatWasNotReadIsKept(t *testing.T) {
	o := readLeader(t)
	put(o, item{'E', 1}, item{'F', 1}, item{'L', 2}, item{'E', 2})
	expect(t, read(o), item{'E', 1}, item{'F', 1}, item{'E', 2})
}

// The second LEADER of a term may be unread, but who has read the first is owed the loss.
func TestTheLossOfALeaderThatWasReadOnce(t *testing.T) {
	o := readLeader(t)
	put(o, item{'L', 1}, item{'E', 1}, item{'L', 2}, item{'E', 2})
	expect(t, read(o), item{'E', 1}, item{'E', 2})
}

func TestATermThatEndedUnreadBehindALossIsNotTold(t *testing.T) {
	before := runtime.NumGoroutine()
	o := readLeader(t)
	put(o, item{'E', 1}, item{'F', 1}, item{'L', 2}, item{'F', 2}, item{'C', 2})
	o.Close()
	expect(t, read(o), item{'E', 1}, item{'F', 1}, item{'F', 2}, item{'C', 2})
	expectNoMore(t, before)
}

func TestALeaderIsToldWhenTheLossBeforeItIsRead(t *testing.T) {
	before := runtime.NumGoroutine()
	o := readLeader(t)
	put(o, item{'E', 1}, item{'F', 1}, item{'L', 2}, item{'L', 3})
	time.Sleep(10 * time.Millisecond)
	if unread := len(o.Items()); unread != 2 {
		t.Errorf("%d items are unread", unread)
	}
	for _, want := range []item{{'E', 1}, {'F', 1}, {'L', 3}} {
		expect(t, []item{next(t, o)}, want)
	}
	expectNoMore(t, before) // Although it isn't closed.
	put(o, item{'E', 3}, item{'C', 3})
	o.Close()
	expect(t, read(o), item{'E', 3}, item{'C', 3})
}

func TestALeaderBehindWhatIsNoLossIsSentAtOnce(t *testing.T) {
	o := readLeader(t)
	put(o, item{'E', 1}, item{'F', 1})
	expect(t, []item{next(t, o)}, item{'E', 1})
	o.Put(item{'L', 2})
	expect(t, read(o), item{'F', 1}, item{'L', 2})
	o.Put(item{'E', 2})
	expect(t, read(o), item{'E', 2})
	put(o, item{'F', 2}, item{'L', 3})
	expect(t, read(o), item{'F', 2}, item{'L', 3})
}

func TestALeaderThatIsHeldAtTheEndIsNotTold(t *testing.T) {
	o := readLeader(t)
	put(o, item{'E', 1}, item{'L', 2})
	o.Close()
	expect(t, read(o), item{'E', 1})
}

// Room is made for new items when the reader comes back, and not by what the reader is owed.
func TestAReaderWhoComesBackReadsTheLoss(t *testing.T) {
	for round := 0; round < 300; round++ {
		o := readLeader(t)
		go func() {
			for term := 1; term <= 100; term++ {
				put(o, item{'E', term}, item{'F', term})
			}
			o.Close()
		}()
		for turns := round; turns > 0 && len(o.Items()) < Capacity-1; turns-- {
			runtime.Gosched()
		}
		expect(t, []item{next(t, o)}, item{'E', 1})
		last := item{}
		for last = range o.Items() {
		}
		expect(t, []item{last}, item{'F', 100})
	}
}

func TestAReaderWhoNeverComesCostsNothingMore(t *testing.T) {
	for _, first := range []int{0, 1, 2} { // What was read before.
		before := runtime.NumGoroutine()
		o := New(leads)
		put(o, item{'F', 0}, item{'L', 1})
		for i := 0; i < first; i++ {
			<-o.Items()
		}
		for term := 1; term < 1000; term++ {
			put(o, item{'E', term}, item{'F', term}, item{'L', term + 1})
			if first < 2 && runtime.NumGoroutine() > before {
				t.Fatal("a goroutine waits for who has read no LEADER")
			}
		}
		put(o, item{'E', 1000}, item{'C', 1000})
		o.Close()
		expectNoMore(t, before)
		got := read(o)
		if len(got) > Capacity {
			t.Errorf("%d items are kept", len(got))
		}
		expect(t, got[len(got)-1:], item{'C', 1000})
		expect(t, got[:1], []item{{'F', 0}, {'E', 1}, {'E', 1}}[first])
		for place, i := range got {
			if leads(i) {
				t.Errorf("LEADER %d, which is over, is told in %v", i.term, got)
			}
			if place > 0 && i.term < got[place-1].term {
				t.Errorf("%v follows %v", i, got[place-1])
			}
		}
	}
}

func TestAReaderWhoComesBackReadsTheNewest(t *testing.T) {
	before := runtime.NumGoroutine()
	o := readLeader(t)
	for term := 1; term < 100; term++ {
		put(o, item{'E', term}, item{'F', term}, item{'L', term + 1})
	}
	expect(t, []item{next(t, o)}, item{'E', 1})
	last := next(t, o)
	for ; !leads(last); last = next(t, o) {
	}
	expect(t, []item{last}, item{'L', 100})
	for term := 100; term < 200; term++ {
		put(o, item{'E', term}, item{'F', term})
	}
	expect(t, []item{next(t, o)}, item{'E', 100})
	for last = next(t, o); last != (item{'F', 199}); last = next(t, o) {
	}
	expectNoMore(t, before)
}

// A reader of any speed, who may stop for a while or until the end, sees items in order. After a LEADER comes the loss of
// that very term; no LEADER is read whose term was over before the reader asked; the last item is always the end.
func TestAReaderOfAnySpeed(t *testing.T) {
	before := runtime.NumGoroutine()
	for seed := int64(0); seed < 200; seed++ {
		chance := rand.New(rand.NewSource(seed))
		o := New(leads)
		var over atomic.Int64 // The last term whose loss was put.
		done := make(chan struct{})
		go func(chance *rand.Rand) {
			defer close(done)
			pauses := 1 + chance.Intn(20)
			for term := 1; term <= 30; term++ {
				put(o, item{'F', term})
				for again := chance.Intn(3); again >= 0; again-- {
					o.Put(item{'L', term})
					pause(chance, pauses)
				}
				o.Put(item{'E', term})
				over.Store(int64(term))
				pause(chance, pauses)
			}
			o.Put(item{'C', 31})
			o.Close()
		}(rand.New(rand.NewSource(-seed)))

		pauses, stops := 1+chance.Intn(60), chance.Intn(400)
		last, ended := item{'F', 0}, int64(0)
		for i := range o.Items() {
			switch {
			case i.term < last.term:
				t.Fatalf("seed %d: %v after %v", seed, i, last)
			case leads(last) && i != last && i != item{'E', last.term}:
				t.Fatalf("seed %d: %v after %v, without its loss", seed, i, last)
			case leads(i) && int64(i.term) <= ended:
				t.Fatalf("seed %d: %v is read, and term %d was over", seed, i, ended)
			}
			last = i
			if pause(chance, pauses); chance.Intn(1+stops) == 0 {
				if chance.Intn(4) == 0 {
					<-done
				} else {
					time.Sleep(time.Duration(chance.Intn(300)) * time.Microsecond)
				}
			}
			ended = over.Load()
		}
		if last.kind != 'C' {
			t.Fatalf("seed %d: the last item is %v", seed, last)
		}
	}
	expectNoMore(t, before)
}

func pause(chance *rand.Rand, most int) {
	for turns := chance.Intn(most); turns > 0; turns-- {
		runtime.Gosched()
	}
}
