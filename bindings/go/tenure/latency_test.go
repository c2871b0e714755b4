package tenure_test

import (
	"context"
	"sort"
	"testing"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

// BenchmarkEventToChannel bounds from above what passes between the engine's having an event and a goroutine's reading it: it
// measures from the call that causes the event, resigning as a candidate in memory, and so contains that call and the engine's
// waking up.
func BenchmarkEventToChannel(b *testing.B) {
	options := tenure.Options{Endpoints: []string{"memory://" + b.Name()}, Service: "s"}
	service := open(b, options)
	lead(b, open(b, options), "e", tenure.CampaignOptions{})
	done, cancel := context.WithCancel(background)
	cancel() // So that Resign begins, and waits for nothing.
	taken := make([]time.Duration, b.N)
	for round := range taken {
		campaign := stand(b, service, "e", tenure.CampaignOptions{})
		expectNext(b, campaign, tenure.StateFollower)
		read := make(chan tenure.BootTime)
		reading := make(chan struct{})
		go func() {
			close(reading)
			<-campaign.Statuses()
			read <- tenure.Now()
		}()
		<-reading
		time.Sleep(100 * time.Microsecond) // Until all that is awake is asleep.
		called := tenure.Now()
		_ = campaign.Resign(done)
		taken[round] = time.Duration(<-read - called)
		must(b, campaign.Resign(background))
	}
	report(b, taken)
}

// BenchmarkCallToEngineAndBack is what of the above isn't the event's way: a call that the engine's thread answers.
func BenchmarkCallToEngineAndBack(b *testing.B) {
	service := open(b, tenure.Options{Endpoints: []string{"memory://" + b.Name()}, Service: "s"})
	lead(b, service, "e", tenure.CampaignOptions{})
	taken := make([]time.Duration, b.N)
	for round := range taken {
		time.Sleep(100 * time.Microsecond)
		called := tenure.Now()
		_, err := service.Leader(background, "e")
		taken[round] = time.Duration(tenure.Now() - called)
		must(b, err)
	}
	report(b, taken)
}

func BenchmarkIsLeader(b *testing.B) {
	service := open(b, tenure.Options{Endpoints: []string{"memory://" + b.Name()}, Service: "s"})
	campaign := lead(b, service, "e", tenure.CampaignOptions{})
	b.ResetTimer()
	for round := 0; round < b.N; round++ {
		if !campaign.IsLeader() {
			b.Fatal("it doesn't lead")
		}
	}
}

func report(b *testing.B, taken []time.Duration) {
	sort.Slice(taken, func(i, j int) bool { return taken[i] < taken[j] })
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	b.ReportMetric(micros(taken[len(taken)/2]), "p50-µs")
	b.ReportMetric(micros(taken[len(taken)*99/100]), "p99-µs")
	b.ReportMetric(0, "ns/op")
}
