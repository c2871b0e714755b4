package outbox

import (
	"math/rand"
	"reflect"
	"runtime"
	"testing"
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

func expect(t *testing.T, got []item, want ...item) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
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
	o := New(leads)
	put(o, item{'F', 0}, item{'L', 1})
	expect(t, read(o), item{'F', 0}, item{'L', 1})
	put(o, item{'E', 1}, item{'F', 1}, item{'L', 2}, item{'E', 2})
	got := read(o)
	expect(t, got[:1], item{'E', 1})
	expect(t, got[len(got)-1:], item{'E', 2})
}

func TestAReaderWhoNeverComesCostsNothingMore(t *testing.T) {
	for _, first := range []int{0, 2} { // What was read before.
		o := New(leads)
		put(o, item{'F', 0}, item{'L', 1})
		for i := 0; i < first; i++ {
			<-o.Items()
		}
		for term := 1; term < 1000; term++ {
			put(o, item{'E', term}, item{'F', term}, item{'L', term + 1})
		}
		put(o, item{'C', 1000})
		o.Close()
		var got []item
		for i := range o.Items() {
			got = append(got, i)
		}
		if len(got) > Capacity+keptLate {
			t.Errorf("%d items are kept", len(got))
		}
		expect(t, got[len(got)-1:], item{'C', 1000})
		if first == 2 {
			expect(t, got[:1], item{'E', 1})
		}
		for place, i := range got {
			if leads(i) && (place+1 == len(got) || leads(got[place+1])) {
				t.Errorf("LEADER %d has no loss in %v", i.term, got)
			}
		}
	}
}

// A reader of any speed sees items in order, and between two terms a loss; the last item is always the end.
func TestAReaderOfAnySpeed(t *testing.T) {
	for seed := int64(0); seed < 400; seed++ {
		chance := rand.New(rand.NewSource(seed))
		o := New(leads)
		go func(pauses int) {
			for term := 1; term <= 30; term++ {
				for _, i := range []item{{'F', term}, {'L', term}, {'E', term}} {
					o.Put(i)
					for pause := rand.Intn(pauses); pause > 0; pause-- {
						runtime.Gosched()
					}
				}
			}
			o.Put(item{'C', 31})
			o.Close()
		}(1 + chance.Intn(20))

		last, leading := item{'F', 0}, false
		for i := range o.Items() {
			if i.term < last.term {
				t.Fatalf("seed %d: %v after %v", seed, i, last)
			}
			if leads(i) && leading {
				t.Fatalf("seed %d: term %d begins before the loss of term %d is read", seed, i.term, last.term)
			}
			last, leading = i, leads(i)
			for pause := chance.Intn(1 + chance.Intn(60)); pause > 0; pause-- {
				runtime.Gosched()
			}
		}
		if last.kind != 'C' {
			t.Fatalf("seed %d: the last item is %v", seed, last)
		}
	}
}
