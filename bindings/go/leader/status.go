package leader

import "fmt"

// State is the state of a campaign.
type State int

const (
	// Follower has called Campaign and is not elected, or has resigned.
	Follower State = iota
	// Leader is elected.
	Leader
	// Error has lost the candidacy.
	Error
	// Closed is over, other than by Resign.
	Closed
)

// String is the state's name.
func (s State) String() string {
	switch s {
	case Follower:
		return "Follower"
	case Leader:
		return "Leader"
	case Error:
		return "Error"
	case Closed:
		return "Closed"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Status is a state, and with [Error] the reason.
type Status struct {
	State State
	Err   error
}

// NewStatus makes a status that isn't an error.
func NewStatus(state State) Status { return Status{State: state} }

// NewErrorStatus makes a status of state [Error].
func NewErrorStatus(err error) Status { return Status{State: Error, Err: err} }
