/*
 * Tenure: leader election on etcd.
 *
 * Generated from src/ffi/ by `make header`. What holds for everything below:
 *
 * Names      Functions and types start with tenure_, numbers and macros with TENURE_.
 *
 * Handles    tenure_options, tenure_campaign_options, tenure_service, tenure_campaign and tenure_observer are handles.
 *            Their pointers are ids, made by the library and not to be dereferenced. A handle that was freed, is of
 *            another type or was never one answers TENURE_INVALID_HANDLE; using it does no harm. Every one that you
 *            get is yours, and ends with the tenure_*_free of its type. Freeing NULL or freeing twice does nothing.
 *
 * Results    tenure_error, tenure_event, tenure_candidate and tenure_candidates are structs to read, made by the
 *            library. Don't write to them, don't copy the struct, and free those that you get with the tenure_*_free
 *            of their type; what they point to ends with them. Freeing NULL does nothing. So does freeing twice,
 *            unless a later result has the address by then. Later versions append fields: one at an offset of
 *            struct_size or more doesn't exist in the library at hand.
 *
 * Calls      Arguments are inputs, then out_*, then err. A tenure_code is TENURE_OK (0) or why it failed. Outputs and
 *            *err are emptied on entry without being freed (pointers NULL, descriptors -1), and filled on success or
 *            failure. err may be NULL; else *err gets the failure as a sentence, to be freed by tenure_error_free.
 *
 * Errors     Next to those named at each function, every call that returns a tenure_code may answer
 *            TENURE_NULL_POINTER and TENURE_INVALID_HANDLE (the message names the argument), TENURE_FORKED,
 *            TENURE_PANIC, TENURE_SYSTEM and TENURE_INTERNAL. docs/errors.md says what to do about each.
 *
 * Inputs     Strings are UTF-8 and end with NUL; election names have at most 1024 bytes. Bytes come with a length.
 *            Whatever is passed is copied before the call returns. Times are in the unit that the name ends with.
 *
 * Threads    Every function may be called from every thread at any time, and so may a handle be freed while other
 *            threads use it. tenure_campaign_is_leader, _remaining_ms, _token and _state never wait. A thread that is
 *            cancelled (pthread_cancel) inside a function ends when that returns. The optimised library needs 64 KiB
 *            of stack at most.
 *
 * Events     A service delivers its events in one of two ways, chosen by its option `events`. `callback`: functions of
 *            type tenure_event_fn are called on one thread of the service's own, one at a time and in order. `pull`:
 *            the program calls tenure_service_next_event, with or without watching tenure_service_event_fd. Inside a
 *            callback everything may be called, but ending its own service answers TENURE_WRONG_THREAD. Callbacks must
 *            return, and not unwind into the library: no C++ exception, no longjmp, no pthread_exit.
 *
 * Leading    An event tells what was; tenure_campaign_is_leader tells what is. Ask it before acting as the leader, and
 *            pass tenure_campaign_token along, so that the receiver can refuse a leader of the past.
 *
 * Signals    The library's threads block all signals, and it installs no handlers.
 *
 * fork()     A child owns nothing of its parent's: handles made before the fork answer TENURE_FORKED, is_leader is
 *            false, freeing does nothing, and the parent isn't disturbed. The child may open services of its own. One
 *            forked inside a callback has only that thread, and must end without returning from the callback.
 *
 * Loading    The library stays in memory after dlclose, and its thread until the process ends. A service can be closed
 *            while its program is unloaded by dlclose, but not opened while that is loaded by dlopen: TENURE_SYSTEM.
 *
 * Memory     Where the system refuses memory, the process says so on its standard error and aborts; a thread or a
 *            descriptor that it refuses is an error (TENURE_SYSTEM, TENURE_UNAVAILABLE) or is tried again.
 */


#ifndef TENURE_H
#define TENURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Version of this header; `tenure_version_string` and `tenure_version_number` tell the library's. */
#define TENURE_VERSION_MAJOR 0
#define TENURE_VERSION_MINOR 1
#define TENURE_VERSION_PATCH 0
#define TENURE_VERSION_NUMBER (TENURE_VERSION_MAJOR * 1000000 + TENURE_VERSION_MINOR * 1000 + TENURE_VERSION_PATCH)
#define TENURE_VERSION_STRING "0.1.0"

/** Version of the ABI that this header describes; `tenure_abi_version` tells the library's. */
#define TENURE_ABI_VERSION 0

/** Error codes, see tenure_code. Numbers are never changed or reused. */
enum {
    /** Success. */
    TENURE_OK = 0,
    /** An argument is out of its range; the message names it. */
    TENURE_INVALID_ARGUMENT = 1,
    /** A pointer that must not be NULL is. */
    TENURE_NULL_POINTER = 2,
    /** The handle was freed, is of another type, or never came from this library. */
    TENURE_INVALID_HANDLE = 3,
    /** The call would wait for the thread that makes it: close or free of a service inside one of its
     * callbacks. */
    TENURE_WRONG_THREAD = 4,
    /** The handle was made before fork() and belongs to the parent process. Open a service of your own in
     * the child. */
    TENURE_FORKED = 5,
    /** A defect in the library was caught. Leadership held through the handle is given up. Please report
     * it. */
    TENURE_PANIC = 6,
    /** No option has this name; the message lists near ones. */
    TENURE_UNKNOWN_OPTION = 7,
    /** The option's value is outside its documented range, or it contradicts another option. */
    TENURE_INVALID_VALUE = 8,
    /** An election, service or environment name is not UTF-8, too long, or holds what a key can't. */
    TENURE_INVALID_NAME = 9,
    /** The service, campaign or observer is closed, or closing. */
    TENURE_CLOSED = 10,
    /** This service already stands in this election. Wait for that campaign's CLOSED event. */
    TENURE_CAMPAIGN_IN_PROGRESS = 11,
    /** The election has no leader. */
    TENURE_NO_LEADER = 12,
    /** This campaign does not lead. */
    TENURE_NOT_LEADER = 13,
    /** Not confirmed within the time given. Leadership is given up; the library goes on removing the key
     * until etcd confirms it or the lease's time to live is over. Calling again waits on. */
    TENURE_PENDING = 14,
    /** Nothing happened within the time given. */
    TENURE_TIMEOUT = 15,
    /** No etcd endpoint could be reached, or none answered; the message names each one's reason. */
    TENURE_UNAVAILABLE = 16,
    /** etcd refuses the user name or password. */
    TENURE_AUTHENTICATION_FAILED = 17,
    /** The user may not do this under this prefix. */
    TENURE_PERMISSION_DENIED = 18,
    /** A certificate is wrong, expired or not trusted; the message says which side and why. */
    TENURE_TLS = 19,
    /** The lease could not be renewed before the deadline: etcd was out of reach for too long or refused
     * the renewal, or the process slept. */
    TENURE_SESSION_EXPIRED = 20,
    /** Somebody revoked the session's lease, or it expired at etcd before our deadline. */
    TENURE_LEASE_REVOKED = 21,
    /** Somebody deleted the candidate's key, or took it over. */
    TENURE_KEY_DELETED = 22,
    /** The endpoints answer for another cluster, or for one that was restored from an older state. Tokens
     * of before and after can't be compared. */
    TENURE_CLUSTER_CHANGED = 23,
    /** Keys of another election are nested below this election's prefix, so that both would block each
     * other. Choose another name. */
    TENURE_NAME_COLLISION = 24,
    /** The value is larger than the library (1 MiB) or the server accepts. */
    TENURE_VALUE_TOO_LARGE = 25,
    /** etcd's space quota is used up (alarm NOSPACE): it takes no new keys until an operator makes room. */
    TENURE_NO_SPACE = 26,
    /** etcd refused the request for a reason given in the message. */
    TENURE_REFUSED = 27,
    /** The campaign was not elected within its `wait_limit` and has withdrawn. */
    TENURE_WAIT_LIMIT = 28,
    /** The call does not fit the service's event delivery (option `events`). */
    TENURE_WRONG_MODE = 29,
    /** The operating system refused a thread or a descriptor. */
    TENURE_SYSTEM = 30,
    /** An invariant inside the library did not hold. Leadership is given up. Please report it. */
    TENURE_INTERNAL = 31
};

/** States of a campaign, see tenure_state. */
enum {
    /** No state: the handle isn't live. */
    TENURE_STATE_NONE = 0,
    /** Standing for election, or withdrawn from it: not the leader. */
    TENURE_STATE_FOLLOWER = 1,
    /** The leader, until the deadline unless renewed. */
    TENURE_STATE_LEADER = 2,
    /** The candidacy was lost; the reason says why. FOLLOWER follows with `rejoin`, else CLOSED. */
    TENURE_STATE_ERROR = 3,
    /** The campaign is over; its last event. */
    TENURE_STATE_CLOSED = 4
};

/** Kinds of events, see tenure_event_kind. */
enum {
    /** A campaign changed its state. */
    TENURE_EVENT_CAMPAIGN = 1,
    /** An observed election changed its leader. */
    TENURE_EVENT_OBSERVER = 2,
    /** A line for the log. */
    TENURE_EVENT_LOG = 3
};

/** Weights of log lines, see tenure_level. */
enum {
    /** What ends a candidacy or needs an operator. */
    TENURE_LEVEL_ERROR = 1,
    /** What may: lost connections, late renewals. */
    TENURE_LEVEL_WARN = 2,
    /** Changes of state. */
    TENURE_LEVEL_INFO = 3,
    /** Every request. */
    TENURE_LEVEL_DEBUG = 4
};



/**
 * One candidacy of this process in one election.
 */
typedef struct tenure_campaign tenure_campaign;

/**
 * Options of a campaign: names and values as text, listed in docs/options.md.
 */
typedef struct tenure_campaign_options tenure_campaign_options;

/**
 * A subscription to who leads an election.
 */
typedef struct tenure_observer tenure_observer;

/**
 * Options of a service: names and values as text, listed in docs/options.md.
 */
typedef struct tenure_options tenure_options;

/**
 * A connection to one etcd cluster, with a namespace for elections and a session. One per process is normal.
 */
typedef struct tenure_service tenure_service;

/**
 * One of `TENURE_OK`, `TENURE_NO_LEADER` and so on. Later versions may answer with codes that this header doesn't
 * know; `tenure_code_name` and its like take any number.
 */
typedef int32_t tenure_code;

/**
 * What went wrong. Read-only; made by a call that failed and had somewhere to put it; freed by `tenure_error_free`.
 */
typedef struct tenure_error {
    /**
     * Size of this struct in the library at hand. Fields at or beyond it don't exist there.
     */
    uint32_t struct_size;
    /**
     * The code that the call returned.
     */
    tenure_code code;
    /**
     * The code's name, `NO_LEADER` for instance; never NULL, never freed.
     */
    const char *name;
    /**
     * A sentence that names the thing, the reason and what to do; never NULL.
     */
    const char *message;
    /**
     * Whether the same call may succeed later with nothing changed by the caller.
     */
    bool is_retriable;
} tenure_error;

/**
 * One of `TENURE_EVENT_CAMPAIGN`, `TENURE_EVENT_OBSERVER` and `TENURE_EVENT_LOG`. Ignore kinds that you don't know.
 */
typedef int32_t tenure_event_kind;

/**
 * One of `TENURE_STATE_FOLLOWER`, `TENURE_STATE_LEADER`, `TENURE_STATE_ERROR`, `TENURE_STATE_CLOSED`.
 */
typedef int32_t tenure_state;

/**
 * One of `TENURE_LEVEL_ERROR` to `TENURE_LEVEL_DEBUG`.
 */
typedef int32_t tenure_level;

/**
 * Something that happened. Read-only. In a callback it is valid until the callback returns and is not to be freed;
 * from `tenure_service_next_event` it is the program's until `tenure_event_free`.
 *
 * `kind` says which fields are meant: fields of other kinds are 0, false or NULL, texts then empty.
 */
typedef struct tenure_event {
    /**
     * Size of this struct in the library at hand. Fields at or beyond it don't exist there.
     */
    uint32_t struct_size;
    /**
     * What this event is about.
     */
    tenure_event_kind kind;
    /**
     * Campaign, observer: counts their events from 1; a gap means that newer events took the place of unread ones.
     */
    uint64_t sequence;
    /**
     * When the library told it, in nanoseconds of `tenure_boottime_ns`: the difference is how late the reader is.
     */
    int64_t time_ns;
    /**
     * Campaign: its handle; NULL when it was freed.
     */
    struct tenure_campaign *campaign;
    /**
     * Observer: its handle; NULL when it was freed.
     */
    struct tenure_observer *observer;
    /**
     * What was given along when the campaign, the observer or the log callback was set up.
     */
    void *user_data;
    /**
     * Campaign, observer: the election's name; never NULL.
     */
    const char *election;
    /**
     * Campaign: the state entered.
     */
    tenure_state state;
    /**
     * Why; `TENURE_OK` where nothing went wrong.
     */
    tenure_code reason;
    /**
     * The reason's name, `SESSION_EXPIRED` for instance; never NULL.
     */
    const char *reason_name;
    /**
     * The reason as a sentence, empty where nothing went wrong; log: the line. Never NULL.
     */
    const char *message;
    /**
     * Campaign: the candidate's own value; observer: the leader's value. `value_len` bytes, then a NUL that isn't
     * counted; never NULL.
     */
    const char *value;
    /**
     * The value's length in bytes.
     */
    size_t value_len;
    /**
     * The fencing token, of the own key or of the leader's: it grows with every term within one cluster. 0 for none.
     */
    int64_t token;
    /**
     * The cluster that the token belongs to; 0 while unknown.
     */
    uint64_t cluster_id;
    /**
     * The store's revision at which this was so; 0 where the event isn't based on one.
     */
    int64_t revision;
    /**
     * Campaign that leads: until when leadership is certain unless renewed, in nanoseconds of `tenure_boottime_ns`.
     */
    int64_t deadline_ns;
    /**
     * Observer: the leader's key in etcd; `key_len` bytes, then a NUL that isn't counted; never NULL.
     */
    const char *key;
    /**
     * The key's length in bytes.
     */
    size_t key_len;
    /**
     * Observer: the lease that the leader's key is attached to; 0 for none.
     */
    int64_t lease;
    /**
     * Log: the line's weight.
     */
    tenure_level level;
    /**
     * Campaign that leads: a renewal is overdue, so leadership may end at the deadline.
     */
    bool at_risk;
    /**
     * Observer: whether there is a leader.
     */
    bool has_leader;
    /**
     * Observer: false while etcd is out of reach; the leader named is then the last one known.
     */
    bool connected;
    /**
     * Campaign, observer: this is its last event.
     */
    bool closed;
} tenure_event;

/**
 * A leader, or another candidate. Read-only.
 */
typedef struct tenure_candidate {
    /**
     * Size of this struct in the library at hand. Fields at or beyond it don't exist there.
     */
    uint32_t struct_size;
    /**
     * The value it announces: `value_len` bytes, then a NUL that isn't counted; never NULL.
     */
    const char *value;
    /**
     * The value's length in bytes.
     */
    size_t value_len;
    /**
     * Its fencing token: it grows with every term within one cluster.
     */
    int64_t token;
    /**
     * Its key in etcd: `key_len` bytes, then a NUL that isn't counted; never NULL.
     */
    const char *key;
    /**
     * The key's length in bytes.
     */
    size_t key_len;
    /**
     * The lease that its key is attached to; 0 for none.
     */
    int64_t lease;
} tenure_candidate;

/**
 * The candidates of an election, the leader first, then in the order in which they would follow. Read-only; freed
 * by `tenure_candidates_free`.
 */
typedef struct tenure_candidates {
    /**
     * Size of this struct in the library at hand. Fields at or beyond it don't exist there.
     */
    uint32_t struct_size;
    /**
     * How many there are.
     */
    size_t count;
    /**
     * Pointers to each; they belong to this struct.
     */
    const struct tenure_candidate *const *items;
} tenure_candidates;

/**
 * Gets events. `user_data` is what was given along, `event` is valid during the call only.
 *
 * Called on one thread of the service's own, one event at a time and in order. It may call every function of the
 * library but those that end its own service (they answer `TENURE_WRONG_THREAD`). It may take its time: leadership,
 * renewal and other services don't wait for it, but the service's further events do. It must not unwind: no C++
 * exception, no longjmp, no pthread_exit.
 */
typedef void (*tenure_event_fn)(void *user_data, const struct tenure_event *event);

/**
 * Told once that the library needs `user_data` no more, on whichever thread that turns out. Same rules as for
 * `tenure_event_fn`.
 */
typedef void (*tenure_drop_fn)(void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library at hand, `1.2.3`; compare with `TENURE_VERSION_STRING`, that of the header. Static.
 */
const char *tenure_version_string(void);

/**
 * The version of the library at hand as major * 1000000 + minor * 1000 + patch; compare with
 * `TENURE_VERSION_NUMBER`, that of the header.
 */
uint32_t tenure_version_number(void);

/**
 * The version of the ABI of the library at hand. A program works with every library whose number equals
 * `TENURE_ABI_VERSION` and whose version is not older than the header's.
 */
uint32_t tenure_abi_version(void);

/**
 * Now, on the clock that deadlines are on: nanoseconds on CLOCK_BOOTTIME, which goes on while the machine is
 * suspended.
 */
int64_t tenure_boottime_ns(void);

/**
 * The name of a code: `NO_LEADER` for `TENURE_NO_LEADER`. Any number is fine; `UNKNOWN` for one that this library
 * doesn't know. Never NULL, never to be freed.
 */
const char *tenure_code_name(tenure_code code);

/**
 * A short English text for a code. Any number is fine. Never NULL, never to be freed.
 */
const char *tenure_code_text(tenure_code code);

/**
 * Whether a call that answered with this code may succeed later with nothing changed by the caller. Any number is
 * fine; false for one that this library doesn't know.
 */
bool tenure_code_is_retriable(tenure_code code);

/**
 * Frees an error. NULL is fine.
 */
void tenure_error_free(struct tenure_error *error);

/**
 * Makes the options of a service, all at their defaults; `service` or `prefix` has to be set before opening one.
 * Free with `tenure_options_free`.
 *
 * Errors: SYSTEM.
 */
tenure_code tenure_options_new(struct tenure_options **out_options,
                               struct tenure_error **err);

/**
 * Sets one option by name. The value is checked here; contradictions between options are found by
 * `tenure_service_open`. On an error nothing is changed.
 *
 * Errors: UNKNOWN_OPTION, INVALID_VALUE (the message says what is wrong).
 */
tenure_code tenure_options_set(struct tenure_options *options,
                               const char *name,
                               const char *value,
                               struct tenure_error **err);

/**
 * Frees options. NULL is fine, and so is freeing twice; services opened with them keep their copy.
 */
void tenure_options_free(struct tenure_options *options);

/**
 * Makes the options of a campaign, all at their defaults. Free with `tenure_campaign_options_free`.
 *
 * Errors: SYSTEM.
 */
tenure_code tenure_campaign_options_new(struct tenure_campaign_options **out_options,
                                        struct tenure_error **err);

/**
 * Sets one option by name. The value is checked here; contradictions with the service's options are found by
 * `tenure_service_campaign`. On an error nothing is changed.
 *
 * Errors: UNKNOWN_OPTION, INVALID_VALUE (the message says what is wrong).
 */
tenure_code tenure_campaign_options_set(struct tenure_campaign_options *options,
                                        const char *name,
                                        const char *value,
                                        struct tenure_error **err);

/**
 * Sets what the candidate announces, as `len` bytes of any kind, which are copied; `value` may be NULL when `len`
 * is 0.
 *
 * Errors: VALUE_TOO_LARGE above 1 MiB.
 */
tenure_code tenure_campaign_options_set_value(struct tenure_campaign_options *options,
                                              const void *value,
                                              size_t len,
                                              struct tenure_error **err);

/**
 * Frees options. NULL is fine, and so is freeing twice; campaigns started with them keep their copy.
 */
void tenure_campaign_options_free(struct tenure_campaign_options *options);

/**
 * Frees an event of `tenure_service_next_event`. NULL is fine; the event of a callback is left alone. With a
 * campaign's or observer's last event its `user_data` may end here.
 */
void tenure_event_free(struct tenure_event *event);

/**
 * Frees a candidate of `tenure_service_leader`. NULL is fine; one of a `tenure_candidates` is left alone.
 */
void tenure_candidate_free(struct tenure_candidate *candidate);

/**
 * Frees candidates, each of them included. NULL is fine.
 */
void tenure_candidates_free(struct tenure_candidates *candidates);

/**
 * Opens a service. The options are copied. Waits for etcd for at most the option `dial_timeout`. Free with
 * `tenure_service_free`.
 *
 * Errors: INVALID_VALUE for contradicting options, UNAVAILABLE, TLS, AUTHENTICATION_FAILED, PERMISSION_DENIED, SYSTEM.
 */
tenure_code tenure_service_open(const struct tenure_options *options,
                                struct tenure_service **out_service,
                                struct tenure_error **err);

/**
 * Sets who gets log lines (option `log_level`), as events of kind `TENURE_EVENT_LOG`; a second call takes the first
 * one's place. `on_log` must not be NULL. With `events=pull` log lines come from `tenure_service_next_event` instead.
 *
 * `drop_user_data`, if not NULL, is called exactly once with `user_data`: after the last line, or before this call
 * returns an error.
 *
 * Errors: WRONG_MODE with `events=pull`, CLOSED.
 */
tenure_code tenure_service_set_log_callback(struct tenure_service *service,
                                            tenure_event_fn on_log,
                                            void *user_data,
                                            tenure_drop_fn drop_user_data,
                                            struct tenure_error **err);

/**
 * Stands for election. Returns at once; the first event is always FOLLOWER. `election` NULL or "" is `default`;
 * `options` NULL are the defaults, others are copied. Free with `tenure_campaign_free`.
 *
 * `on_event` gets the campaign's events, the first maybe before this call returns; each holds the handle and
 * `user_data`. It may be NULL, and must be with `events=pull`. `drop_user_data`, if not NULL, is called exactly once
 * with `user_data`: after the campaign's last event (pulled: when that is freed, or when the service is freed with it
 * unread), or before this call returns an error.
 *
 * Errors: INVALID_NAME, INVALID_VALUE for options that contradict the service's, CAMPAIGN_IN_PROGRESS while an earlier
 * campaign of this service for the same election isn't closed, WRONG_MODE, CLOSED, SYSTEM.
 */
tenure_code tenure_service_campaign(struct tenure_service *service,
                                    const char *election,
                                    const struct tenure_campaign_options *options,
                                    tenure_event_fn on_event,
                                    void *user_data,
                                    tenure_drop_fn drop_user_data,
                                    struct tenure_campaign **out_campaign,
                                    struct tenure_error **err);

/**
 * Watches who leads an election, without taking part. The first event tells the state found. `election` NULL or "" is
 * `default`. Free with `tenure_observer_free`.
 *
 * `on_event`, `user_data` and `drop_user_data` are as for `tenure_service_campaign`.
 *
 * Errors: INVALID_NAME, WRONG_MODE, CLOSED, SYSTEM.
 */
tenure_code tenure_service_observe(struct tenure_service *service,
                                   const char *election,
                                   tenure_event_fn on_event,
                                   void *user_data,
                                   tenure_drop_fn drop_user_data,
                                   struct tenure_observer **out_observer,
                                   struct tenure_error **err);

/**
 * Who leads an election now, read linearizably from etcd; waits for at most `timeout_ms` (-1: the service's
 * `call_timeout`). `election` NULL or "" is `default`. Free the answer with `tenure_candidate_free`.
 *
 * Errors: NO_LEADER, INVALID_NAME, NAME_COLLISION, TIMEOUT, UNAVAILABLE, TLS, AUTHENTICATION_FAILED, PERMISSION_DENIED,
 * CLOSED; INVALID_ARGUMENT for a timeout below -1.
 */
tenure_code tenure_service_leader(struct tenure_service *service,
                                  const char *election,
                                  int32_t timeout_ms,
                                  struct tenure_candidate **out_leader,
                                  struct tenure_error **err);

/**
 * All candidates of an election in their order, the leader first; none is no error. Read linearizably from etcd;
 * waits for at most `timeout_ms` (-1: the service's `call_timeout`). `election` NULL or "" is `default`. Free the
 * answer with `tenure_candidates_free`.
 *
 * Errors: INVALID_NAME, NAME_COLLISION, TIMEOUT, UNAVAILABLE, TLS, AUTHENTICATION_FAILED, PERMISSION_DENIED, CLOSED;
 * VALUE_TOO_LARGE when their keys and values are more than 256 MiB together;
 * INVALID_ARGUMENT for a timeout below -1.
 */
tenure_code tenure_service_candidates(struct tenure_service *service,
                                      const char *election,
                                      int32_t timeout_ms,
                                      struct tenure_candidates **out_candidates,
                                      struct tenure_error **err);

/**
 * The next event of the service, with `events=pull`; waits for at most `timeout_ms` (-1: for ever, 0: don't wait).
 * Several threads may wait; each event goes to one of them. Closing the service wakes them. Free the event with
 * `tenure_event_free`.
 *
 * Errors: TIMEOUT when nothing came; CLOSED after the last event of a closed service; WRONG_MODE with
 * `events=callback`; INVALID_ARGUMENT for a timeout below -1.
 */
tenure_code tenure_service_next_event(struct tenure_service *service,
                                      int32_t timeout_ms,
                                      struct tenure_event **out_event,
                                      struct tenure_error **err);

/**
 * A file descriptor for poll, epoll and event loops, with `events=pull`: readable while `tenure_service_next_event`
 * has an event, or the end, to give. Only watch it: don't read it and don't close it; it belongs to the service and
 * ends with `tenure_service_free`.
 *
 * Errors: WRONG_MODE with `events=callback`.
 */
tenure_code tenure_service_event_fd(struct tenure_service *service,
                                    int *out_fd,
                                    struct tenure_error **err);

/**
 * Closes a service: leadership ends at once, every candidacy is withdrawn, every campaign and observer gets its last
 * event, the session ends. Waits for etcd to confirm, for at most `timeout_ms` (-1: the service's `call_timeout`, 0:
 * don't wait). After OK no callback runs any more. Closing twice is fine; the handle stays until it is freed.
 *
 * With `events=pull`, the last events can still be pulled after closing, up to CLOSED.
 *
 * Errors: PENDING: not confirmed yet; the library goes on by itself, and calling again waits on. WRONG_THREAD inside a
 * callback of this service. INVALID_ARGUMENT for a timeout below -1.
 */
tenure_code tenure_service_close(struct tenure_service *service,
                                 int32_t timeout_ms,
                                 struct tenure_error **err);

/**
 * Frees a service. NULL is fine, and so is freeing twice. A service that isn't closed is closed first, waiting for at
 * most its `call_timeout`; what etcd hasn't confirmed by then goes on in the background. Inside a callback of this
 * service nothing is waited for: closing happens in the background and callbacks go on until it is done.
 *
 * Handles of its campaigns and observers stay valid, closed, until they are freed.
 */
void tenure_service_free(struct tenure_service *service);

/**
 * Whether this process leads the election right now. This is the one thing to ask before acting as the leader: it
 * compares the clock with the time until which leadership is certain, and never waits for anything. False for a
 * handle that is NULL, freed, or of the parent process.
 */
bool tenure_campaign_is_leader(const struct tenure_campaign *campaign);

/**
 * For how many milliseconds from now leadership is certain, rounded down; longer if it is renewed. 0 where
 * `tenure_campaign_is_leader` is false. Never waits.
 */
int64_t tenure_campaign_remaining_ms(const struct tenure_campaign *campaign);

/**
 * The fencing token of the term: greater than every earlier leader's. Pass it along with what you do as the leader,
 * so that the receiver can refuse smaller ones. 0 where `tenure_campaign_is_leader` is false. Never waits.
 */
int64_t tenure_campaign_token(const struct tenure_campaign *campaign);

/**
 * The state now, never `TENURE_STATE_LEADER` where `tenure_campaign_is_leader` is false; `TENURE_STATE_NONE` for a
 * handle that is NULL, freed, or of the parent process. Never waits.
 */
tenure_state tenure_campaign_state(const struct tenure_campaign *campaign);

/**
 * Waits until this campaign leads, for at most `timeout_ms` (-1: for ever, 0: only look).
 *
 * Errors: TIMEOUT; when the campaign is over, why: CLOSED, SESSION_EXPIRED, LEASE_REVOKED, KEY_DELETED,
 * CLUSTER_CHANGED, NAME_COLLISION, PERMISSION_DENIED, WAIT_LIMIT and others; INVALID_ARGUMENT for a timeout below -1.
 */
tenure_code tenure_campaign_wait_leader(struct tenure_campaign *campaign,
                                        int32_t timeout_ms,
                                        struct tenure_error **err);

/**
 * Changes the announced value during a term, without losing it. The `len` bytes are copied; `value` may be NULL when
 * `len` is 0. Waits for etcd's answer for at most `timeout_ms` (-1: the service's `call_timeout`).
 *
 * Errors: NOT_LEADER, VALUE_TOO_LARGE above 1 MiB, PERMISSION_DENIED, NO_SPACE, CLOSED; PENDING: not confirmed yet, the
 * library goes on trying; INVALID_ARGUMENT for a timeout below -1.
 */
tenure_code tenure_campaign_proclaim(struct tenure_campaign *campaign,
                                     const void *value,
                                     size_t len,
                                     int32_t timeout_ms,
                                     struct tenure_error **err);

/**
 * Withdraws from the election, leading or waiting. Leadership ends at once; then waits for etcd to confirm that the
 * key is gone, for at most `timeout_ms` (-1: the service's `call_timeout`, 0: don't wait). OK means confirmed, also
 * when there was nothing to withdraw. The campaign's last event follows; the handle stays until it is freed.
 *
 * Errors: PENDING: not confirmed yet; the library goes on by itself, and calling again waits on. (Where etcd can't
 * confirm it, being out of reach or another cluster by now, the end of the lease's time to live does.)
 * INVALID_ARGUMENT for a timeout below -1.
 */
tenure_code tenure_campaign_resign(struct tenure_campaign *campaign,
                                   int32_t timeout_ms,
                                   struct tenure_error **err);

/**
 * Like `tenure_campaign_resign`, for the leader only: a campaign that waits or is over is left as it is. `timeout_ms`
 * is as there (-1: the service's `call_timeout`, 0: don't wait).
 *
 * Errors: NOT_LEADER, with nothing changed; otherwise as `tenure_campaign_resign`: PENDING, INVALID_ARGUMENT.
 */
tenure_code tenure_campaign_resign_leader(struct tenure_campaign *campaign,
                                          int32_t timeout_ms,
                                          struct tenure_error **err);

/**
 * Frees a campaign. NULL is fine, and so is freeing twice. Leadership ends at once, and the candidacy is withdrawn
 * in the background without waiting; events go on to its last one, after which `user_data` ends. To know that the
 * key is gone, call `tenure_campaign_resign` first. May be called inside callbacks.
 */
void tenure_campaign_free(struct tenure_campaign *campaign);

/**
 * Ends an observer. Its last event says `closed`; `user_data` ends after it. Doesn't wait; closing twice is fine.
 *
 * Errors: none of its own.
 */
tenure_code tenure_observer_close(struct tenure_observer *observer,
                                  struct tenure_error **err);

/**
 * Frees an observer, which closes it. NULL is fine, and so is freeing twice. May be called inside callbacks.
 */
void tenure_observer_free(struct tenure_observer *observer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TENURE_H */
