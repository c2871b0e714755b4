"""What include/tenure.h declares, for ctypes: structs, constants and prototypes. Nothing here calls anything."""

from __future__ import annotations

from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

ABI_VERSION = 0
# The version of the header that this file was written after. Structs and functions only ever grow.
VERSION_NUMBER = 1_000

EVENT_CAMPAIGN = 1
EVENT_OBSERVER = 2
EVENT_LOG = 3

LEVEL_ERROR = 1
LEVEL_WARN = 2
LEVEL_INFO = 3
LEVEL_DEBUG = 4


class ErrorStruct(Structure):
    """tenure_error"""

    _fields_ = [
        ("struct_size", c_uint32),
        ("code", c_int32),
        ("name", c_char_p),
        ("message", c_char_p),
        ("is_retriable", c_bool),
    ]


# Values and keys are bytes with a length, so their pointers are c_void_p: a c_char_p would be read up to a NUL.
class EventStruct(Structure):
    """tenure_event"""

    _fields_ = [
        ("struct_size", c_uint32),
        ("kind", c_int32),
        ("sequence", c_uint64),
        ("time_ns", c_int64),
        ("campaign", c_void_p),
        ("observer", c_void_p),
        ("user_data", c_void_p),
        ("election", c_char_p),
        ("state", c_int32),
        ("reason", c_int32),
        ("reason_name", c_char_p),
        ("message", c_char_p),
        ("value", c_void_p),
        ("value_len", c_size_t),
        ("token", c_int64),
        ("cluster_id", c_uint64),
        ("revision", c_int64),
        ("deadline_ns", c_int64),
        ("key", c_void_p),
        ("key_len", c_size_t),
        ("lease", c_int64),
        ("level", c_int32),
        ("at_risk", c_bool),
        ("has_leader", c_bool),
        ("connected", c_bool),
        ("closed", c_bool),
    ]


class CandidateStruct(Structure):
    """tenure_candidate"""

    _fields_ = [
        ("struct_size", c_uint32),
        ("value", c_void_p),
        ("value_len", c_size_t),
        ("token", c_int64),
        ("key", c_void_p),
        ("key_len", c_size_t),
        ("lease", c_int64),
    ]


class CandidatesStruct(Structure):
    """tenure_candidates"""

    _fields_ = [
        ("struct_size", c_uint32),
        ("count", c_size_t),
        ("items", POINTER(POINTER(CandidateStruct))),
    ]


# By the name that the header gives them.
STRUCTS: dict[str, type[Structure]] = {
    "tenure_error": ErrorStruct,
    "tenure_event": EventStruct,
    "tenure_candidate": CandidateStruct,
    "tenure_candidates": CandidatesStruct,
}

_handle = c_void_p
_out_handle = POINTER(c_void_p)
_err = POINTER(POINTER(ErrorStruct))
_event = POINTER(EventStruct)
_candidate = POINTER(CandidateStruct)
_candidates = POINTER(CandidatesStruct)

# Name, result, arguments of the functions that this package calls. It pulls events: where the header has callbacks, it
# passes NULL.
PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "tenure_version_string": (c_char_p, []),
    "tenure_version_number": (c_uint32, []),
    "tenure_abi_version": (c_uint32, []),
    "tenure_error_free": (None, [POINTER(ErrorStruct)]),
    "tenure_options_new": (c_int32, [_out_handle, _err]),
    "tenure_options_set": (c_int32, [_handle, c_char_p, c_char_p, _err]),
    "tenure_options_free": (None, [_handle]),
    "tenure_campaign_options_new": (c_int32, [_out_handle, _err]),
    "tenure_campaign_options_set": (c_int32, [_handle, c_char_p, c_char_p, _err]),
    "tenure_campaign_options_set_value": (c_int32, [_handle, c_char_p, c_size_t, _err]),
    "tenure_campaign_options_free": (None, [_handle]),
    "tenure_event_free": (None, [_event]),
    "tenure_candidate_free": (None, [_candidate]),
    "tenure_candidates_free": (None, [_candidates]),
    "tenure_service_open": (c_int32, [_handle, _out_handle, _err]),
    "tenure_service_campaign": (
        c_int32,
        [_handle, c_char_p, _handle, c_void_p, c_void_p, c_void_p, _out_handle, _err],
    ),
    "tenure_service_observe": (c_int32, [_handle, c_char_p, c_void_p, c_void_p, c_void_p, _out_handle, _err]),
    "tenure_service_leader": (c_int32, [_handle, c_char_p, c_int32, POINTER(_candidate), _err]),
    "tenure_service_candidates": (c_int32, [_handle, c_char_p, c_int32, POINTER(_candidates), _err]),
    "tenure_service_next_event": (c_int32, [_handle, c_int32, POINTER(_event), _err]),
    "tenure_service_close": (c_int32, [_handle, c_int32, _err]),
    "tenure_service_free": (None, [_handle]),
    "tenure_campaign_is_leader": (c_bool, [_handle]),
    "tenure_campaign_remaining_ms": (c_int64, [_handle]),
    "tenure_campaign_token": (c_int64, [_handle]),
    "tenure_campaign_state": (c_int32, [_handle]),
    "tenure_campaign_wait_leader": (c_int32, [_handle, c_int32, _err]),
    "tenure_campaign_proclaim": (c_int32, [_handle, c_char_p, c_size_t, c_int32, _err]),
    "tenure_campaign_resign": (c_int32, [_handle, c_int32, _err]),
    "tenure_campaign_resign_leader": (c_int32, [_handle, c_int32, _err]),
    "tenure_campaign_free": (None, [_handle]),
    "tenure_observer_close": (c_int32, [_handle, _err]),
    "tenure_observer_free": (None, [_handle]),
}
