// Package capi is all of the cgo: the C ABI of libtenure with Go's types. It copies whatever the library hands out and
// frees it, and keeps nothing. Handles are ids that the library checks, so a stale one answers InvalidHandle.
package capi

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"fmt"
	"strings"
	"unsafe"
)

// Codes that this module itself deals with; the whole list is package tenure's.
const (
	OK            = int32(C.TENURE_OK)
	InvalidHandle = int32(C.TENURE_INVALID_HANDLE)
	InvalidValue  = int32(C.TENURE_INVALID_VALUE)
	InvalidName   = int32(C.TENURE_INVALID_NAME)
	Closed        = int32(C.TENURE_CLOSED)
	Timeout       = int32(C.TENURE_TIMEOUT)
	System        = int32(C.TENURE_SYSTEM)
)

// Kinds of events.
const (
	CampaignEvent = int32(C.TENURE_EVENT_CAMPAIGN)
	ObserverEvent = int32(C.TENURE_EVENT_OBSERVER)
	LogEvent      = int32(C.TENURE_EVENT_LOG)
)

// Handles. The zero value of each is never live.
type (
	Service  uintptr
	Campaign uintptr
	Observer uintptr
)

// Failure is what a call answered instead of OK.
type Failure struct {
	Code    int32
	Message string
}

// Setting is one option, by name.
type Setting struct{ Name, Value string }

// Candidate mirrors tenure_candidate.
type Candidate struct {
	Value []byte
	Token int64
	Key   string
	Lease int64
}

// Event mirrors tenure_event. ID is the number given along when the campaign or observer was made.
type Event struct {
	Kind       int32
	ID         uintptr
	Sequence   uint64
	TimeNS     int64
	Election   string
	State      int32
	Reason     int32
	Message    string
	Value      []byte
	Token      int64
	ClusterID  uint64
	Revision   int64
	DeadlineNS int64
	Key        string
	Lease      int64
	Level      int32
	AtRisk     bool
	HasLeader  bool
	Connected  bool
	Closed     bool
}

// Version is the library's, as text.
func Version() string { return C.GoString(C.tenure_version_string()) }

// CheckVersion finds a library that doesn't fit the header that this package was built with.
func CheckVersion() *Failure {
	abi, number := uint32(C.tenure_abi_version()), uint32(C.tenure_version_number())
	if abi == C.TENURE_ABI_VERSION && number >= C.TENURE_VERSION_NUMBER {
		return nil
	}
	return &Failure{System, fmt.Sprintf("libtenure %s with ABI %d was loaded, but the program was built with %s and ABI %d: "+
		"install the library that fits, or build again", Version(), abi, C.TENURE_VERSION_STRING, int(C.TENURE_ABI_VERSION))}
}

// Now is the time in nanoseconds on CLOCK_BOOTTIME.
func Now() int64 { return int64(C.tenure_boottime_ns()) }

// CodeName is NO_LEADER for instance; UNKNOWN for a number that the library doesn't know.
func CodeName(code int32) string { return C.GoString(C.tenure_code_name(C.tenure_code(code))) }

// CodeText is a short English text.
func CodeText(code int32) string { return C.GoString(C.tenure_code_text(C.tenure_code(code))) }

// CodeIsRetriable tells whether the same call may succeed later.
func CodeIsRetriable(code int32) bool {
	return bool(C.tenure_code_is_retriable(C.tenure_code(code)))
}

// Open opens a service, with events to be pulled.
func Open(settings []Setting) (Service, *Failure) {
	made := C.capi_options_new()
	if failure := failed(made.result); failure != nil {
		return 0, failure
	}
	defer C.capi_options_free(made.handle)
	for _, setting := range append(settings, Setting{"events", "pull"}) {
		failure := setting.apply(func(name, value *C.char) C.capi_result {
			return C.capi_options_set(made.handle, name, value)
		})
		if failure != nil {
			return 0, failure
		}
	}
	opened := C.capi_open(made.handle)
	return Service(opened.handle), failed(opened.result)
}

// Close closes; timeoutMS -1 is the service's call_timeout.
func (s Service) Close(timeoutMS int32) *Failure {
	return failed(C.capi_close(C.uintptr_t(s), C.int32_t(timeoutMS)))
}

// Free frees the handle; a closed service's at once.
func (s Service) Free() { C.capi_free(C.uintptr_t(s)) }

// EventFD is readable while NextEvent has something to give. It ends with Free.
func (s Service) EventFD() (int, *Failure) {
	found := C.capi_event_fd(C.uintptr_t(s))
	return int(found.fd), failed(found.result)
}

// NextEvent doesn't wait: code Timeout is "nothing now", Closed "nothing ever".
func (s Service) NextEvent() (Event, int32) {
	next := C.capi_next_event(C.uintptr_t(s))
	if next.code != C.TENURE_OK {
		return Event{}, int32(next.code)
	}
	defer C.tenure_event_free(next.event)
	from := next.event
	return Event{
		Kind:       int32(from.kind),
		ID:         uintptr(C.capi_user_data(from)),
		Sequence:   uint64(from.sequence),
		TimeNS:     int64(from.time_ns),
		Election:   C.GoString(from.election),
		State:      int32(from.state),
		Reason:     int32(from.reason),
		Message:    C.GoString(from.message),
		Value:      bytesOf(from.value, from.value_len),
		Token:      int64(from.token),
		ClusterID:  uint64(from.cluster_id),
		Revision:   int64(from.revision),
		DeadlineNS: int64(from.deadline_ns),
		Key:        string(bytesOf(from.key, from.key_len)),
		Lease:      int64(from.lease),
		Level:      int32(from.level),
		AtRisk:     bool(from.at_risk),
		HasLeader:  bool(from.has_leader),
		Connected:  bool(from.connected),
		Closed:     bool(from.closed),
	}, OK
}

// Campaign stands for election. A value of nil is the service's. Events carry the id.
func (s Service) Campaign(election string, settings []Setting, value []byte, id uintptr) (Campaign, *Failure) {
	made := C.capi_campaign_options_new()
	if failure := failed(made.result); failure != nil {
		return 0, failure
	}
	defer C.capi_campaign_options_free(made.handle)
	for _, setting := range settings {
		failure := setting.apply(func(name, value *C.char) C.capi_result {
			return C.capi_campaign_options_set(made.handle, name, value)
		})
		if failure != nil {
			return 0, failure
		}
	}
	if value != nil {
		start, length := span(value)
		if failure := failed(C.capi_campaign_options_set_value(made.handle, start, length)); failure != nil {
			return 0, failure
		}
	}
	name, failure := electionName(election)
	if failure != nil {
		return 0, failure
	}
	defer C.free(unsafe.Pointer(name))
	stood := C.capi_campaign(C.uintptr_t(s), name, made.handle, C.uintptr_t(id))
	return Campaign(stood.handle), failed(stood.result)
}

// Leader asks etcd who leads.
func (s Service) Leader(election string, timeoutMS int32) (Candidate, *Failure) {
	name, failure := electionName(election)
	if failure != nil {
		return Candidate{}, failure
	}
	defer C.free(unsafe.Pointer(name))
	found := C.capi_find_leader(C.uintptr_t(s), name, C.int32_t(timeoutMS))
	if failure := failed(found.result); failure != nil {
		return Candidate{}, failure
	}
	defer C.tenure_candidate_free(found.leader)
	return candidate(found.leader), nil
}

// Candidates asks etcd who stands, in their order.
func (s Service) Candidates(election string, timeoutMS int32) ([]Candidate, *Failure) {
	name, failure := electionName(election)
	if failure != nil {
		return nil, failure
	}
	defer C.free(unsafe.Pointer(name))
	found := C.capi_list_candidates(C.uintptr_t(s), name, C.int32_t(timeoutMS))
	if failure := failed(found.result); failure != nil {
		return nil, failure
	}
	defer C.tenure_candidates_free(found.candidates)
	list := make([]Candidate, found.candidates.count)
	for place := range list {
		list[place] = candidate(C.capi_candidate_at(found.candidates, C.size_t(place)))
	}
	return list, nil
}

// Observe watches who leads. Events carry the id.
func (s Service) Observe(election string, id uintptr) (Observer, *Failure) {
	name, failure := electionName(election)
	if failure != nil {
		return 0, failure
	}
	defer C.free(unsafe.Pointer(name))
	made := C.capi_observe(C.uintptr_t(s), name, C.uintptr_t(id))
	return Observer(made.handle), failed(made.result)
}

// Free ends the observer: a last event follows.
func (o Observer) Free() { C.capi_observer_free(C.uintptr_t(o)) }

// IsLeader never waits.
func (c Campaign) IsLeader() bool { return bool(C.capi_is_leader(C.uintptr_t(c))) }

// RemainingMS never waits.
func (c Campaign) RemainingMS() int64 { return int64(C.capi_remaining_ms(C.uintptr_t(c))) }

// Token never waits.
func (c Campaign) Token() int64 { return int64(C.capi_token(C.uintptr_t(c))) }

// State never waits.
func (c Campaign) State() int32 { return int32(C.capi_state(C.uintptr_t(c))) }

// Proclaim changes the announced value.
func (c Campaign) Proclaim(value []byte, timeoutMS int32) *Failure {
	start, length := span(value)
	return failed(C.capi_proclaim(C.uintptr_t(c), start, length, C.int32_t(timeoutMS)))
}

// Resign withdraws.
func (c Campaign) Resign(timeoutMS int32) *Failure {
	return failed(C.capi_resign(C.uintptr_t(c), C.int32_t(timeoutMS)))
}

// ResignLeader withdraws a leader only.
func (c Campaign) ResignLeader(timeoutMS int32) *Failure {
	return failed(C.capi_resign_leader(C.uintptr_t(c), C.int32_t(timeoutMS)))
}

// Free frees the handle; the candidacy ends with it.
func (c Campaign) Free() { C.capi_campaign_free(C.uintptr_t(c)) }

func failed(result C.capi_result) *Failure {
	code := int32(result.code)
	if code == OK {
		return nil
	}
	if result.error == nil {
		return &Failure{code, CodeText(code)}
	}
	defer C.tenure_error_free(result.error)
	return &Failure{code, C.GoString(result.error.message)}
}

func candidate(from *C.tenure_candidate) Candidate {
	return Candidate{
		Value: bytesOf(from.value, from.value_len),
		Token: int64(from.token),
		Key:   string(bytesOf(from.key, from.key_len)),
		Lease: int64(from.lease),
	}
}

func bytesOf(start *C.char, length C.size_t) []byte {
	copied := make([]byte, length)
	copy(copied, unsafe.Slice((*byte)(unsafe.Pointer(start)), length))
	return copied
}

// span is where a copy of bytes begins; C only reads it, and copies what it keeps. cgo looks for pointers in the whole
// object that bytes lie in, which may be a struct of the caller's, so what C gets is an object of its own.
func span(value []byte) (unsafe.Pointer, C.size_t) {
	copied := append([]byte{}, value...)
	return unsafe.Pointer(unsafe.SliceData(copied)), C.size_t(len(copied))
}

// A NUL would end the text early for C, and name another election.
func electionName(name string) (*C.char, *Failure) {
	if strings.IndexByte(name, 0) >= 0 {
		return nil, &Failure{InvalidName, fmt.Sprintf("election %q: a name can't hold a NUL", name)}
	}
	return C.CString(name), nil
}

func (s Setting) apply(set func(name, value *C.char) C.capi_result) *Failure {
	if strings.IndexByte(s.Name, 0) >= 0 || strings.IndexByte(s.Value, 0) >= 0 {
		// Without the value, which may be a password.
		return &Failure{InvalidValue, fmt.Sprintf("option %q: neither names nor values can hold a NUL", s.Name)}
	}
	name, value := C.CString(s.Name), C.CString(s.Value)
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(value))
	return failed(set(name, value))
}
