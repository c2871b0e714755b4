package tenure

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/tenure-election/tenure/bindings/go/internal/capi"
)

// Code says why a call failed or a term ended. A Code is an error to compare with:
//
//	if errors.Is(err, tenure.ErrNoLeader) { … }
//
// Numbers are never changed or reused. A newer library may answer with codes that aren't listed here; they work all the
// same.
type Code int32

// What the program did wrong. Trying again doesn't help.
const (
	// ErrInvalidArgument means that an argument is out of its range; the message names it.
	ErrInvalidArgument Code = 1
	// ErrNullPointer comes from using the zero value of a Service or Campaign.
	ErrNullPointer Code = 2
	// ErrInvalidHandle isn't answered by this package; it is in the list of the C ABI.
	ErrInvalidHandle Code = 3
	// ErrWrongThread isn't answered by this package; it is in the list of the C ABI.
	ErrWrongThread Code = 4
	// ErrForked means that the object was made before fork() and belongs to the parent process.
	ErrForked Code = 5
	// ErrUnknownOption means that no option has this name; the message lists near ones.
	ErrUnknownOption Code = 7
	// ErrInvalidValue means that an option's value is outside its range or contradicts another option.
	ErrInvalidValue Code = 8
	// ErrInvalidName means that the name of an election, service or environment can't be part of a key.
	ErrInvalidName Code = 9
	// ErrClosed means that the service or campaign is closed, or closing.
	ErrClosed Code = 10
	// ErrNameCollision means that another election's keys are nested below this one's.
	ErrNameCollision Code = 24
	// ErrValueTooLarge means that the value is larger than 1 MiB, or than the server accepts.
	ErrValueTooLarge Code = 25
	// ErrWrongMode isn't answered by this package; it is in the list of the C ABI.
	ErrWrongMode Code = 29
)

// What the election answers.
const (
	// ErrCampaignInProgress means that this service already stands in this election.
	ErrCampaignInProgress Code = 11
	// ErrNoLeader means that the election has no leader.
	ErrNoLeader Code = 12
	// ErrNotLeader means that this campaign does not lead.
	ErrNotLeader Code = 13
	// ErrPending means that etcd has not confirmed it yet. The library goes on by itself, and calling again waits on.
	ErrPending Code = 14
	// ErrWaitLimit means that the campaign was not elected within its WaitLimit and has withdrawn.
	ErrWaitLimit Code = 28
)

// Why a term or a candidacy was lost.
const (
	// ErrSessionExpired means that the lease could not be renewed before the deadline.
	ErrSessionExpired Code = 20
	// ErrLeaseRevoked means that somebody revoked the lease, or that it expired at etcd before our deadline.
	ErrLeaseRevoked Code = 21
	// ErrKeyDeleted means that somebody deleted the candidate's key, or took it over.
	ErrKeyDeleted Code = 22
	// ErrClusterChanged means that the endpoints answer for another cluster, or a restored one: tokens of before and
	// after can't be compared.
	ErrClusterChanged Code = 23
)

// What etcd, the network or the machine refused.
const (
	// ErrTimeout means that nothing happened within the time given.
	ErrTimeout Code = 15
	// ErrUnavailable means that no endpoint could be reached, or none answered.
	ErrUnavailable Code = 16
	// ErrAuthenticationFailed means that etcd refuses the user name or password.
	ErrAuthenticationFailed Code = 17
	// ErrPermissionDenied means that the user may not do this under this prefix.
	ErrPermissionDenied Code = 18
	// ErrTLS means that a certificate is wrong, expired or not trusted.
	ErrTLS Code = 19
	// ErrNoSpace means that etcd's space quota is used up.
	ErrNoSpace Code = 26
	// ErrRefused means that etcd refused the request for a reason given in the message.
	ErrRefused Code = 27
	// ErrSystem means that the operating system refused a thread or a descriptor, or that another version of the library
	// was loaded than the program was built for.
	ErrSystem Code = 30
)

// Defects of the library. Leadership is given up. Please report them.
const (
	ErrPanic    Code = 6
	ErrInternal Code = 31
)

// Error is the code's short text.
func (c Code) Error() string { return "tenure: " + capi.CodeText(int32(c)) }

// Name is NO_LEADER for ErrNoLeader, as in the documentation of the C ABI; UNKNOWN for a number that the library doesn't
// know.
func (c Code) Name() string { return capi.CodeName(int32(c)) }

// Retriable tells whether a call that failed with this code may succeed later with nothing changed by the caller.
func (c Code) Retriable() bool { return capi.CodeIsRetriable(int32(c)) }

// Error is what every call of this package fails with, other than a context's error alone. errors.Is finds its Code, and the
// context's error where a context ended the call.
type Error struct {
	// Code is why.
	Code Code
	// Message names the thing, the reason and what to do.
	Message string

	cause error
}

// Error is the message, and the context's error if there is one.
func (e *Error) Error() string {
	if e.cause != nil {
		return "tenure: " + e.Message + ": " + e.cause.Error()
	}
	return "tenure: " + e.Message
}

// Unwrap makes errors.Is and errors.As find the code and the context's error.
func (e *Error) Unwrap() []error {
	if e.cause != nil {
		return []error{e.Code, e.cause}
	}
	return []error{e.Code}
}

// Retriable tells whether the same call may succeed later with nothing changed by the caller.
func (e *Error) Retriable() bool { return e.Code.Retriable() }

// asError is the failure as users see it; nil for none.
func asError(failure *capi.Failure) error {
	if failure == nil {
		return nil
	}
	code, message := failure.Code, failure.Message
	if code == capi.InvalidHandle {
		// Handles are freed by this package alone, when what they stand for is closed.
		code, message = capi.Closed, "the service is closed"
	}
	return &Error{Code: Code(code), Message: message}
}

// within is the context's time as the library's timeout; -1, the service's CallTimeout, if it has none.
func within(ctx context.Context) int32 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return -1
	}
	// Rounded up: that the time is over is to be told by the context.
	left := time.Until(deadline)/time.Millisecond + 1
	return int32(min(max(left, 0), math.MaxInt32))
}

// inCall bounds how many threads wait inside the library: a call whose context has ended goes on there until its timeout,
// and so many of them must not become so many threads.
var inCall = make(chan struct{}, 100)

// await runs a call that may wait; the context's end wakes the caller at once, and the call ends by itself by its timeout.
// unless is what the library answers when the time is over; what names the call.
func await[T any](ctx context.Context, what string, unless Code, call func(timeoutMS int32) (T, *capi.Failure)) (T, error) {
	if !enter(ctx) {
		var none T
		return none, interrupted(ctx, what, unless)
	}
	return awaitInside(ctx, what, unless, call)
}

// enter waits for room; false if the context ended first, and nothing was begun.
func enter(ctx context.Context) bool {
	select {
	case inCall <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// awaitInside is await for who has entered, and leaves.
func awaitInside[T any](ctx context.Context, what string, unless Code, call func(int32) (T, *capi.Failure)) (T, error) {
	type answer struct {
		value   T
		failure *capi.Failure
	}
	timeoutMS := within(ctx)
	if ctx.Done() == nil {
		defer func() { <-inCall }()
		value, failure := call(timeoutMS)
		return value, asError(failure)
	}
	answered := make(chan answer, 1)
	go func() {
		defer func() { <-inCall }()
		value, failure := call(timeoutMS)
		answered <- answer{value, failure}
	}()
	select {
	case got := <-answered:
		if got.failure != nil && Code(got.failure.Code) == unless && isOver(ctx) {
			return got.value, interrupted(ctx, what, unless)
		}
		return got.value, asError(got.failure)
	case <-ctx.Done():
		var none T
		return none, interrupted(ctx, what, unless)
	}
}

// isOver tells whether the context has ended. Where its deadline is all but here, the library saw it first, and the context's
// own timer is waited for.
func isOver(ctx context.Context) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < 2*time.Millisecond {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// interrupted is the error of a call that its context ended.
func interrupted(ctx context.Context, what string, code Code) error {
	if code == ErrTimeout && ctx.Err() != context.DeadlineExceeded {
		return fmt.Errorf("tenure: %s: %w", what, ctx.Err())
	}
	return &Error{Code: code, Message: what, cause: ctx.Err()}
}
