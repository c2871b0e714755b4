// Command events measures how late an event is when it is read from a channel, in the form of benches/tenure.c: events N.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: events ENDPOINTS")
		os.Exit(2)
	}
	ctx := context.Background()
	service, err := tenure.Open(ctx, tenure.Options{Endpoints: strings.Split(os.Args[1], ","), Service: "bench"})
	check(err)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var count int
		_, err := fmt.Sscanf(lines.Text(), "events %d", &count)
		check(err)
		answer := "ok"
		for range count {
			observing, stop := context.WithCancel(ctx)
			observations, err := service.Observe(observing, "nobody")
			check(err)
			first := <-observations
			answer += fmt.Sprintf(" %d", tenure.Now()-first.Time)
			stop()
			for range observations {
			}
		}
		fmt.Println(answer)
	}
	check(service.Close(ctx))
}

func check(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}
