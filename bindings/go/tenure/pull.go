package tenure

import (
	"fmt"
	"os"
	"syscall"

	"github.com/tenure-election/tenure/bindings/go/internal/capi"
)

// eventFile is a copy of the descriptor that is readable while there are events: one that Go may close.
func eventFile(handle capi.Service) (*os.File, error) {
	fd, failure := handle.EventFD()
	if failure != nil {
		return nil, asError(failure)
	}
	copied, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return nil, &Error{Code: ErrSystem, Message: fmt.Sprintf("no descriptor for events: %v", errno)}
	}
	// The library's descriptor doesn't block, so the runtime's poller takes it, and waiting for events needs no thread.
	return os.NewFile(copied, "tenure events"), nil
}

// pull delivers the service's events until it is closed. It is the service's only goroutine, and the only one that sends.
func (s *Service) pull(events *os.File) {
	failure := s.pullUntilClosed(events)
	_ = events.Close() // It was only watched; there is nothing that closing could lose.
	if failure != nil {
		_ = s.handle.Close(0) // Who can't be told of a loss must not lead. It goes on by itself.
	}
	ended := asError(failure)
	if ended == nil {
		ended = &Error{Code: ErrClosed, Message: "the service is closed"}
	}
	s.mu.Lock()
	left := s.subscribers
	s.subscribers = nil
	s.ended = ended // Who came now would wait for ever.
	s.mu.Unlock()
	for _, who := range left {
		who.abandon(failure)
	}
	s.log.end()
	close(s.drained)
}

// Nil for the proper end.
func (s *Service) pullUntilClosed(events *os.File) *capi.Failure {
	descriptor, err := events.SyscallConn()
	if err != nil {
		return &capi.Failure{Code: capi.System, Message: fmt.Sprintf("no more events: %v", err)}
	}
	var failure *capi.Failure
	err = descriptor.Read(func(uintptr) bool {
		for {
			event, code := s.handle.NextEvent()
			switch code {
			case capi.OK:
				s.dispatch(&event)
			case capi.Timeout:
				return false
			case capi.Closed:
				return true
			default:
				failure = &capi.Failure{Code: code, Message: "no more events: " + capi.CodeText(code)}
				return true
			}
		}
	})
	if err != nil && failure == nil {
		failure = &capi.Failure{Code: capi.System, Message: fmt.Sprintf("no more events: %v", err)}
	}
	return failure
}

func (s *Service) dispatch(event *capi.Event) {
	switch event.Kind {
	case capi.LogEvent:
		s.log.put(event.Level, event.Message)
	case capi.CampaignEvent, capi.ObserverEvent:
		if who := s.subscriber(event.ID); who != nil && who.deliver(event) {
			s.unsubscribe(event.ID)
		}
	}
}
