/*
 * Tenure: leader election on etcd, for C++17 and later. A header over tenure.h; link with the library as a C program does.
 *
 * What tenure.h says about events, leading, signals, fork() and unloading holds here, too. What is different:
 *
 * Objects    options, campaign_options, service, campaign and observer own a handle each, can be moved and not copied,
 *            and end it with themselves. An object that was moved from answers errc::null_pointer, and does not lead.
 *
 * Errors     Calls that fail throw tenure::error. With -fno-exceptions, or with TENURE_NO_EXCEPTIONS defined, they
 *            return tenure::result<T> instead, which holds the value or the error. Wherever a type is written
 *            returned<T> below, it is T in the one case and result<T> in the other. Both may live in one program.
 *
 * Callbacks  are copied or moved in, called on the service's own thread, and destroyed once, after their last event,
 *            on whichever thread that turns out. What a callback throws doesn't reach the C library: it goes to the
 *            handler that service::open was given, and to std::terminate if it was given none.
 *
 * Texts      Names and values of options and names of elections are UTF-8 without NUL. Values of candidates are any
 *            bytes. Whatever is passed is copied; events and candidates hold copies of their own.
 *
 * Times      Any std::chrono::duration does as a timeout; parts of a millisecond count as a whole one. Deadlines are
 *            on tenure::boottime_clock.
 */
#ifndef TENURE_HPP
#define TENURE_HPP

#include "tenure.h"

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#if !defined(TENURE_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define TENURE_NO_EXCEPTIONS
#endif

namespace tenure {

// Two names, so that parts of a program that were compiled either way don't take each other's functions.
#ifdef TENURE_NO_EXCEPTIONS
inline namespace without_exceptions {
#else
inline namespace with_exceptions {
#endif

/** Codes of errors, and reasons in events; docs/errors.md says what to do about each. Later versions may know more. */
enum class errc : tenure_code {
    ok = TENURE_OK,
    invalid_argument = TENURE_INVALID_ARGUMENT,
    null_pointer = TENURE_NULL_POINTER,
    invalid_handle = TENURE_INVALID_HANDLE,
    wrong_thread = TENURE_WRONG_THREAD,
    forked = TENURE_FORKED,
    panic = TENURE_PANIC,
    unknown_option = TENURE_UNKNOWN_OPTION,
    invalid_value = TENURE_INVALID_VALUE,
    invalid_name = TENURE_INVALID_NAME,
    closed = TENURE_CLOSED,
    campaign_in_progress = TENURE_CAMPAIGN_IN_PROGRESS,
    no_leader = TENURE_NO_LEADER,
    not_leader = TENURE_NOT_LEADER,
    pending = TENURE_PENDING,
    timeout = TENURE_TIMEOUT,
    unavailable = TENURE_UNAVAILABLE,
    authentication_failed = TENURE_AUTHENTICATION_FAILED,
    permission_denied = TENURE_PERMISSION_DENIED,
    tls = TENURE_TLS,
    session_expired = TENURE_SESSION_EXPIRED,
    lease_revoked = TENURE_LEASE_REVOKED,
    key_deleted = TENURE_KEY_DELETED,
    cluster_changed = TENURE_CLUSTER_CHANGED,
    name_collision = TENURE_NAME_COLLISION,
    value_too_large = TENURE_VALUE_TOO_LARGE,
    no_space = TENURE_NO_SPACE,
    refused = TENURE_REFUSED,
    wait_limit = TENURE_WAIT_LIMIT,
    wrong_mode = TENURE_WRONG_MODE,
    system = TENURE_SYSTEM,
    internal = TENURE_INTERNAL
};

/** The name of a code, `NO_LEADER` for errc::no_leader; `UNKNOWN` for one that the library doesn't know. */
[[nodiscard]] inline const char *name(errc code) noexcept
{
    return tenure_code_name(static_cast<tenure_code>(code));
}

/** Whether a call that fails with this code may succeed later with nothing changed by the caller. */
[[nodiscard]] inline bool is_retriable(errc code) noexcept
{
    return tenure_code_is_retriable(static_cast<tenure_code>(code));
}

/** States of a campaign. */
enum class state : tenure_state {
    /** The campaign was moved from, or belongs to the parent process. */
    none = TENURE_STATE_NONE,
    /** Standing for election, or withdrawn from it. */
    follower = TENURE_STATE_FOLLOWER,
    /** The leader, until the deadline unless renewed. */
    leader = TENURE_STATE_LEADER,
    /** The candidacy was lost; status::reason says why. follower comes next with `rejoin`, else closed. */
    error = TENURE_STATE_ERROR,
    /** The campaign is over; its last event. */
    closed = TENURE_STATE_CLOSED
};

/** Weights of log lines. */
enum class level : tenure_level {
    /** What ends a candidacy or needs an operator. */
    error = TENURE_LEVEL_ERROR,
    /** What may: lost connections, late renewals. */
    warn = TENURE_LEVEL_WARN,
    /** Changes of state. */
    info = TENURE_LEVEL_INFO,
    /** Every request. */
    debug = TENURE_LEVEL_DEBUG
};

/** The version of the library at hand, `1.2.3`; TENURE_VERSION_STRING is that of the header. */
[[nodiscard]] inline std::string_view version() noexcept
{
    return tenure_version_string();
}

/** What went wrong. what() is a sentence that names the thing, the reason and what to do. */
class error : public std::runtime_error {
public:
    error(errc code, const std::string &message) : std::runtime_error(message), code_(code) {}

    [[nodiscard]] errc code() const noexcept { return code_; }
    /** The code's name, `NO_LEADER` for instance. */
    [[nodiscard]] const char *name() const noexcept { return tenure::name(code_); }
    /** The same as what(). */
    [[nodiscard]] const char *message() const noexcept { return what(); }
    /** Whether the same call may succeed later with nothing changed by the caller. */
    [[nodiscard]] bool is_retriable() const noexcept { return tenure::is_retriable(code_); }

private:
    errc code_;
};

/**
 * A value, or the error that came in its place. Taking the value of a result that has none ends the program with
 * std::terminate, and so does taking the error of one that has a value.
 */
template <class T>
class [[nodiscard]] result {
public:
    result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
    result(tenure::error failure) : content_(std::in_place_index<1>, std::move(failure)) {}

    [[nodiscard]] bool has_value() const noexcept { return content_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    [[nodiscard]] T &value() & noexcept { return *or_end(std::get_if<0>(&content_)); }
    [[nodiscard]] const T &value() const & noexcept { return *or_end(std::get_if<0>(&content_)); }
    [[nodiscard]] T &&value() && noexcept { return std::move(*or_end(std::get_if<0>(&content_))); }
    T &operator*() & noexcept { return value(); }
    const T &operator*() const & noexcept { return value(); }
    T &&operator*() && noexcept { return std::move(*this).value(); }
    T *operator->() noexcept { return &value(); }
    const T *operator->() const noexcept { return &value(); }

    [[nodiscard]] const tenure::error &error() const noexcept { return *or_end(std::get_if<1>(&content_)); }

private:
    template <class Pointer>
    static Pointer or_end(Pointer found) noexcept
    {
        if (found == nullptr)
            std::terminate();
        return found;
    }

    std::variant<T, tenure::error> content_;
};

/** Success, or an error. */
template <>
class [[nodiscard]] result<void> {
public:
    result() = default;
    result(tenure::error failure) : failure_(std::move(failure)) {}

    [[nodiscard]] bool has_value() const noexcept { return !failure_; }
    explicit operator bool() const noexcept { return has_value(); }
    /** Ends the program with std::terminate if there is an error. */
    void value() const noexcept
    {
        if (failure_)
            std::terminate();
    }
    [[nodiscard]] const tenure::error &error() const noexcept
    {
        if (!failure_)
            std::terminate();
        return *failure_;
    }

private:
    std::optional<tenure::error> failure_;
};

#ifdef TENURE_NO_EXCEPTIONS
template <class T>
using returned = result<T>;
#define TENURE_FAIL_ return
#else
template <class T>
using returned = T;
#define TENURE_FAIL_ throw
#endif

/** The clock that deadlines are on: it never jumps, and goes on while the machine is suspended. */
struct boottime_clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<boottime_clock>;
    static constexpr bool is_steady = true;

    [[nodiscard]] static time_point now() noexcept { return time_point(duration(tenure_boottime_ns())); }
};

/** For how long to wait: any duration, 0 to only look, or nothing for the default that each call names. */
class timeout {
public:
    constexpr timeout() noexcept = default;

    /** Below 0 the call answers errc::invalid_argument; 24 days and more count as 24 days. */
    template <class Rep, class Period>
    timeout(std::chrono::duration<Rep, Period> length) noexcept
    {
        const double ms = std::ceil(std::chrono::duration<double, std::milli>(length).count());
        constexpr double longest = (std::numeric_limits<std::int32_t>::max)();
        if (ms >= 0)
            ms_ = static_cast<std::int32_t>(ms < longest ? ms : longest);
        else
            ms_ = -2;
    }

    /** As the C functions take it. */
    [[nodiscard]] constexpr std::int32_t ms() const noexcept { return ms_; }

private:
    std::int32_t ms_ = -1;
};

/** A leader, or another candidate. */
struct candidate {
    /** What it announces. */
    std::string value;
    /** Its fencing token: it grows with every term within one cluster. */
    std::int64_t token = 0;
    /** Its key in etcd. */
    std::string key;
    /** The lease that its key is attached to; 0 for none. */
    std::int64_t lease = 0;
};

/** An event of a campaign: it entered a state. */
struct status {
    /** The campaign, to compare with campaign::get(); null once that object is gone. */
    tenure_campaign *campaign = nullptr;
    /** Counts the campaign's events from 1; a gap means that newer events took the place of unread ones. */
    std::uint64_t sequence = 0;
    /** When the library told it: the difference to now is how late the reader is. */
    boottime_clock::time_point time;
    std::string election;
    tenure::state state = tenure::state::none;
    /** While leading: a renewal is overdue, so leadership may end at the deadline. */
    bool at_risk = false;
    /** Why; errc::ok where nothing went wrong. */
    errc reason = errc::ok;
    /** The reason as a sentence; empty where nothing went wrong. */
    std::string message;
    /** The candidate's own value. */
    std::string value;
    /** The fencing token; 0 for none. */
    std::int64_t token = 0;
    /** The cluster that the token belongs to; 0 while unknown. */
    std::uint64_t cluster_id = 0;
    /** The store's revision at which this was so; 0 where the event isn't based on one. */
    std::int64_t revision = 0;
    /** While leading: until when leadership is certain unless renewed. */
    std::optional<boottime_clock::time_point> deadline;
    /** This is the campaign's last event. */
    bool closed = false;
};

/** An event of an observer: who leads. */
struct observation {
    /** The observer, to compare with observer::get(); null once that object is gone. */
    tenure_observer *observer = nullptr;
    /** Counts the observer's events from 1; a gap means that newer events took the place of unread ones. */
    std::uint64_t sequence = 0;
    /** When the library told it: the difference to now is how late the reader is. */
    boottime_clock::time_point time;
    std::string election;
    /** The leader, or nobody. */
    std::optional<candidate> leader;
    /** False while etcd is out of reach; the leader named is then the last one known. */
    bool connected = false;
    /** Why it isn't connected or was closed; errc::ok where nothing went wrong. */
    errc reason = errc::ok;
    /** The reason as a sentence; empty where nothing went wrong. */
    std::string message;
    /** The cluster that the leader's token belongs to; 0 while unknown. */
    std::uint64_t cluster_id = 0;
    /** The store's revision at which this was so; 0 where the event isn't based on one. */
    std::int64_t revision = 0;
    /** This is the observer's last event. */
    bool closed = false;
};

/** A line for the log. */
struct log_record {
    /** When it was told. */
    boottime_clock::time_point time;
    tenure::level level = tenure::level::debug;
    std::string message;
};

/** Anything that a service with `events=pull` delivers. */
using event = std::variant<status, observation, log_record>;

/** Names and values of options, listed in docs/options.md. */
using settings = std::initializer_list<std::pair<std::string_view, std::string_view>>;

using status_handler = std::function<void(const status &)>;
using observation_handler = std::function<void(const observation &)>;
using log_handler = std::function<void(const log_record &)>;

#ifndef TENURE_NO_EXCEPTIONS
/** Told what a callback threw, on the callbacks' thread. What it throws itself goes to std::terminate. */
using exception_handler = std::function<void(std::exception_ptr)>;
#endif

namespace detail {

struct deleter {
    void operator()(tenure_error *error) const noexcept { tenure_error_free(error); }
    void operator()(tenure_event *event) const noexcept { tenure_event_free(event); }
    void operator()(tenure_candidate *candidate) const noexcept { tenure_candidate_free(candidate); }
    void operator()(tenure_candidates *candidates) const noexcept { tenure_candidates_free(candidates); }
    void operator()(tenure_options *options) const noexcept { tenure_options_free(options); }
    void operator()(tenure_campaign_options *options) const noexcept { tenure_campaign_options_free(options); }
    void operator()(tenure_service *service) const noexcept { tenure_service_free(service); }
    void operator()(tenure_campaign *campaign) const noexcept { tenure_campaign_free(campaign); }
    void operator()(tenure_observer *observer) const noexcept { tenure_observer_free(observer); }
};

template <class T>
using owned = std::unique_ptr<T, deleter>;

/** What a call of the C library fails with, if it does. `call` is given where the call puts its error. */
template <class Call>
std::optional<error> failure_of(Call call)
{
    tenure_error *raw = nullptr;
    const tenure_code code = call(&raw);
    if (code == TENURE_OK)
        return std::nullopt;
    const owned<tenure_error> held(raw);
    return error(static_cast<errc>(code), held ? held->message : tenure_code_text(code));
}

/** The C library would read such a text up to the NUL only. */
inline std::optional<error> nul_in(std::string_view text, errc code, const char *what)
{
    if (text.find('\0') == std::string_view::npos)
        return std::nullopt;
    return error(code, std::string(what) + " holds a NUL: leave it out");
}

inline std::optional<error> nul_in_option(std::string_view name, std::string_view value)
{
    if (auto failure = nul_in(name, errc::unknown_option, "the option's name"))
        return failure;
    if (value.find('\0') == std::string_view::npos)
        return std::nullopt;
    return nul_in(value, errc::invalid_value, ("the value of option `" + std::string(name) + "`").c_str());
}

inline std::optional<error> nul_in_election(std::string_view election)
{
    return nul_in(election, errc::invalid_name, "the election's name");
}

#ifdef TENURE_NO_EXCEPTIONS
inline result<void> done()
{
    return {};
}
#else
inline void done() noexcept {}
#endif

inline boottime_clock::time_point instant(std::int64_t boottime_ns)
{
    return boottime_clock::time_point(boottime_clock::duration(boottime_ns));
}

inline candidate copy(const tenure_candidate &from)
{
    return {std::string(from.value, from.value_len), from.token, std::string(from.key, from.key_len), from.lease};
}

inline status copy_status(const tenure_event &from)
{
    status to;
    to.campaign = from.campaign;
    to.sequence = from.sequence;
    to.time = instant(from.time_ns);
    to.election = from.election;
    to.state = static_cast<state>(from.state);
    to.at_risk = from.at_risk;
    to.reason = static_cast<errc>(from.reason);
    to.message = from.message;
    to.value.assign(from.value, from.value_len);
    to.token = from.token;
    to.cluster_id = from.cluster_id;
    to.revision = from.revision;
    if (from.deadline_ns != 0)
        to.deadline = instant(from.deadline_ns);
    to.closed = from.closed;
    return to;
}

inline observation copy_observation(const tenure_event &from)
{
    observation to;
    to.observer = from.observer;
    to.sequence = from.sequence;
    to.time = instant(from.time_ns);
    to.election = from.election;
    if (from.has_leader) {
        to.leader = candidate{std::string(from.value, from.value_len), from.token, std::string(from.key, from.key_len),
                              from.lease};
    }
    to.connected = from.connected;
    to.reason = static_cast<errc>(from.reason);
    to.message = from.message;
    to.cluster_id = from.cluster_id;
    to.revision = from.revision;
    to.closed = from.closed;
    return to;
}

inline log_record copy_log(const tenure_event &from)
{
    return {instant(from.time_ns), static_cast<level>(from.level), from.message};
}

/** What a callback needs; the C library's user_data. */
template <class Event>
struct callback {
    std::function<void(const Event &)> function;
#ifndef TENURE_NO_EXCEPTIONS
    std::shared_ptr<exception_handler> on_exception;
#endif
};

/** As the C library calls it; noexcept, so that nothing is ever thrown into that. */
template <class Event, Event Copy(const tenure_event &)>
void call(void *user_data, const tenure_event *event) noexcept
{
    auto *to = static_cast<callback<Event> *>(user_data);
#ifdef TENURE_NO_EXCEPTIONS
    to->function(Copy(*event));
#else
    try {
        to->function(Copy(*event));
    } catch (...) {
        if (!to->on_exception || !*to->on_exception)
            std::terminate();
        (*to->on_exception)(std::current_exception());
    }
#endif
}

template <class Event>
void drop(void *user_data) noexcept
{
    delete static_cast<callback<Event> *>(user_data);
}

/** What options of both kinds have in common. */
template <class Options, class Handle, tenure_code (*make_new)(Handle **, tenure_error **),
          tenure_code (*set_one)(Handle *, const char *, const char *, tenure_error **)>
class options_base {
public:
    /** Options that are set like this, all others at their defaults. Errors: those of set. */
    [[nodiscard]] static returned<Options> make(settings all = {})
    {
        Handle *made = nullptr;
        if (auto failure = failure_of([&](tenure_error **err) { return make_new(&made, err); }))
            TENURE_FAIL_ *failure;
        Options to(made);
        for (const auto &[name, value] : all) {
            if (auto failure = to.try_set(name, value))
                TENURE_FAIL_ *failure;
        }
        return to;
    }

    /** Sets one option; on an error nothing is changed. Errors: unknown_option, invalid_value. */
    returned<void> set(std::string_view name, std::string_view value)
    {
        if (auto failure = try_set(name, value))
            TENURE_FAIL_ *failure;
        return done();
    }

    /** The handle, for functions of tenure.h; it stays this object's. */
    [[nodiscard]] Handle *get() const noexcept { return handle_.get(); }

protected:
    explicit options_base(Handle *handle) : handle_(handle) {}

private:
    std::optional<error> try_set(std::string_view name, std::string_view value)
    {
        if (auto failure = nul_in_option(name, value))
            return failure;
        return failure_of([&](tenure_error **err) {
            return set_one(get(), std::string(name).c_str(), std::string(value).c_str(), err);
        });
    }

    owned<Handle> handle_;
};

} // namespace detail

/** Options of a service, see docs/options.md. `service` or `prefix` has to be set before opening one. */
class options
    : public detail::options_base<options, tenure_options, tenure_options_new, tenure_options_set> {
    friend options_base;
    using options_base::options_base;
};

/** Options of a campaign, see docs/options.md. */
class campaign_options
    : public detail::options_base<campaign_options, tenure_campaign_options, tenure_campaign_options_new,
                                  tenure_campaign_options_set> {
public:
    /** Sets what the candidate announces, any bytes. Errors: value_too_large above 1 MiB. */
    returned<void> set_value(std::string_view value)
    {
        auto failure = detail::failure_of([&](tenure_error **err) {
            return tenure_campaign_options_set_value(get(), value.data(), value.size(), err);
        });
        if (failure)
            TENURE_FAIL_ *failure;
        return detail::done();
    }

private:
    friend options_base;
    using options_base::options_base;
};

/**
 * One candidacy of this process in one election. Ending the object ends leadership at once and withdraws in the
 * background; to know that the key is gone, resign first. Every function may be called from every thread.
 */
class campaign {
public:
    /**
     * Whether this process leads right now: the one thing to ask before acting as the leader. Never waits. It is a
     * look and not a lock: pass token() along with what must not happen twice.
     */
    [[nodiscard]] bool is_leader() const noexcept { return tenure_campaign_is_leader(get()); }

    /** For how long from now leadership is certain; longer if it is renewed. 0 for who doesn't lead. Never waits. */
    [[nodiscard]] std::chrono::milliseconds remaining() const noexcept
    {
        return std::chrono::milliseconds(tenure_campaign_remaining_ms(get()));
    }

    /** The fencing token of the term, greater than every earlier leader's; 0 for who doesn't lead. Never waits. */
    [[nodiscard]] std::int64_t token() const noexcept { return tenure_campaign_token(get()); }

    /** The state now; never leader where is_leader() is false. Never waits. */
    [[nodiscard]] tenure::state state() const noexcept
    {
        return static_cast<tenure::state>(tenure_campaign_state(get()));
    }

    /**
     * Waits until this campaign leads; by default for ever. Errors: timeout; when the campaign is over, why: closed,
     * session_expired, lease_revoked, key_deleted, cluster_changed, name_collision, permission_denied, wait_limit and
     * others.
     */
    returned<void> wait_leader(timeout within = {})
    {
        return run([&](tenure_error **err) { return tenure_campaign_wait_leader(get(), within.ms(), err); });
    }

    /**
     * Changes the announced value, any bytes, during a term; waits for etcd's answer, by default for `call_timeout`.
     * Errors: not_leader, value_too_large above 1 MiB, permission_denied, no_space, closed; pending: not confirmed yet,
     * the library goes on trying.
     */
    returned<void> proclaim(std::string_view value, timeout within = {})
    {
        return run([&](tenure_error **err) {
            return tenure_campaign_proclaim(get(), value.data(), value.size(), within.ms(), err);
        });
    }

    /**
     * Withdraws, leading or waiting. Leadership ends at once; then waits for etcd to confirm that the key is gone, by
     * default for `call_timeout`. Errors: pending: not confirmed yet; the library goes on by itself, and calling again
     * waits on.
     */
    returned<void> resign(timeout within = {})
    {
        return run([&](tenure_error **err) { return tenure_campaign_resign(get(), within.ms(), err); });
    }

    /** Like resign, for the leader only. Errors: not_leader, with nothing changed; else those of resign. */
    returned<void> resign_leader(timeout within = {})
    {
        return run([&](tenure_error **err) { return tenure_campaign_resign_leader(get(), within.ms(), err); });
    }

    /** The handle, for functions of tenure.h and to compare with status::campaign; it stays this object's. */
    [[nodiscard]] tenure_campaign *get() const noexcept { return handle_.get(); }

private:
    friend class service;
    explicit campaign(tenure_campaign *handle) : handle_(handle) {}

    template <class Call>
    static returned<void> run(Call call)
    {
        if (auto failure = detail::failure_of(call))
            TENURE_FAIL_ *failure;
        return detail::done();
    }

    detail::owned<tenure_campaign> handle_;
};

/** A subscription to who leads an election; ends with the object. */
class observer {
public:
    /** Ends the subscription. Its last event says `closed`. Doesn't wait; closing twice is fine. */
    returned<void> close()
    {
        if (auto failure = detail::failure_of([&](tenure_error **err) { return tenure_observer_close(get(), err); }))
            TENURE_FAIL_ *failure;
        return detail::done();
    }

    /** The handle, for functions of tenure.h and to compare with observation::observer; it stays this object's. */
    [[nodiscard]] tenure_observer *get() const noexcept { return handle_.get(); }

private:
    friend class service;
    explicit observer(tenure_observer *handle) : handle_(handle) {}

    detail::owned<tenure_observer> handle_;
};

/**
 * A connection to one etcd cluster, with a namespace for elections and a session. One per process is normal.
 *
 * Ending the object closes it, waiting for at most its `call_timeout`; inside one of its callbacks nothing is waited
 * for. Campaigns and observers may outlive it; they are closed then. Every function may be called from every thread.
 */
class service {
public:
#ifdef TENURE_NO_EXCEPTIONS
    /**
     * Opens a service; waits for etcd for at most the option `dial_timeout`. Errors: invalid_value for contradicting
     * options, unavailable, tls, authentication_failed, permission_denied, system.
     */
    [[nodiscard]] static returned<service> open(const options &with)
    {
        tenure_service *opened = nullptr;
        const auto try_open = [&](tenure_error **err) { return tenure_service_open(with.get(), &opened, err); };
        if (auto failure = detail::failure_of(try_open))
            return *failure;
        return service(opened);
    }

    /** The same with options named here. Errors: those of options::set, too. */
    [[nodiscard]] static returned<service> open(settings all)
    {
        auto with = options::make(all);
        return with ? open(*with) : returned<service>(with.error());
    }
#else
    /**
     * Opens a service; waits for etcd for at most the option `dial_timeout`. `on_exception` is told what callbacks
     * throw; without it that ends the program by std::terminate. Errors: invalid_value for contradicting options,
     * unavailable, tls, authentication_failed, permission_denied, system.
     */
    [[nodiscard]] static service open(const options &with, exception_handler on_exception = {})
    {
        auto shared = std::make_shared<exception_handler>(std::move(on_exception));
        tenure_service *opened = nullptr;
        const auto try_open = [&](tenure_error **err) { return tenure_service_open(with.get(), &opened, err); };
        if (auto failure = detail::failure_of(try_open))
            throw *failure;
        return service(opened, std::move(shared));
    }

    /** The same with options named here. Errors: those of options::set, too. */
    [[nodiscard]] static service open(settings all, exception_handler on_exception = {})
    {
        return open(options::make(all), std::move(on_exception));
    }
#endif

    /**
     * Stands for election; an empty name is `default`. Returns at once. `on_event`, which may be empty and must be with
     * `events=pull`, gets the campaign's events, the first (follower) maybe before this call returns.
     *
     * Errors: invalid_name, invalid_value for options that contradict the service's, campaign_in_progress while an
     * earlier campaign of this service for the same election isn't closed, wrong_mode, closed, system.
     */
    [[nodiscard]] returned<tenure::campaign> campaign(std::string_view election, const campaign_options &with,
                                                      status_handler on_event = {})
    {
        return stand(election, with.get(), std::move(on_event));
    }

    /** The same with options named here. Errors: those of campaign_options::set, too. */
    [[nodiscard]] returned<tenure::campaign> campaign(std::string_view election, settings all = {},
                                                      status_handler on_event = {})
    {
        if (all.size() == 0)
            return stand(election, nullptr, std::move(on_event));
        auto with = campaign_options::make(all);
#ifdef TENURE_NO_EXCEPTIONS
        return with ? stand(election, with->get(), std::move(on_event)) : returned<tenure::campaign>(with.error());
#else
        return stand(election, with.get(), std::move(on_event));
#endif
    }

    /**
     * Watches who leads, without taking part; an empty name is `default`. The first event tells the state found.
     * `on_event` is as for campaign. Errors: invalid_name, wrong_mode, closed, system.
     */
    [[nodiscard]] returned<tenure::observer> observe(std::string_view election, observation_handler on_event = {})
    {
        if (auto failure = detail::nul_in_election(election))
            TENURE_FAIL_ *failure;
        const std::string name(election);
        const tenure_event_fn call =
            on_event ? &detail::call<observation, detail::copy_observation> : tenure_event_fn(nullptr);
        auto *user_data = keep(std::move(on_event));
        const tenure_drop_fn drop = user_data != nullptr ? &detail::drop<observation> : tenure_drop_fn(nullptr);
        tenure_observer *made = nullptr;
        auto failure = detail::failure_of([&](tenure_error **err) {
            return tenure_service_observe(get(), name.c_str(), call, user_data, drop, &made, err);
        });
        if (failure)
            TENURE_FAIL_ *failure;
        return tenure::observer(made);
    }

    /**
     * Who leads now, read linearizably from etcd; nothing if nobody does. An empty name is `default`; waits by default
     * for `call_timeout`. Errors: invalid_name, name_collision, timeout, unavailable, tls, authentication_failed,
     * permission_denied, closed.
     */
    [[nodiscard]] returned<std::optional<candidate>> leader(std::string_view election = {}, timeout within = {}) const
    {
        if (auto failure = detail::nul_in_election(election))
            TENURE_FAIL_ *failure;
        const std::string name(election);
        tenure_candidate *found = nullptr;
        auto failure = detail::failure_of([&](tenure_error **err) {
            return tenure_service_leader(get(), name.c_str(), within.ms(), &found, err);
        });
        if (failure && failure->code() == errc::no_leader)
            return std::optional<candidate>();
        if (failure)
            TENURE_FAIL_ *failure;
        const detail::owned<tenure_candidate> held(found);
        return std::optional<candidate>(detail::copy(*held));
    }

    /** All candidates in their order, the leader first; else as leader. */
    [[nodiscard]] returned<std::vector<candidate>> candidates(std::string_view election = {},
                                                              timeout within = {}) const
    {
        if (auto failure = detail::nul_in_election(election))
            TENURE_FAIL_ *failure;
        const std::string name(election);
        tenure_candidates *found = nullptr;
        auto failure = detail::failure_of([&](tenure_error **err) {
            return tenure_service_candidates(get(), name.c_str(), within.ms(), &found, err);
        });
        if (failure)
            TENURE_FAIL_ *failure;
        const detail::owned<tenure_candidates> held(found);
        std::vector<candidate> all;
        all.reserve(held->count);
        for (std::size_t i = 0; i < held->count; i++)
            all.push_back(detail::copy(*held->items[i]));
        return all;
    }

    /**
     * With `events=pull`, the next event, or nothing when none came within the time given (by default it waits for
     * ever). Several threads may wait; each event goes to one of them. Closing the service wakes them. Errors: closed
     * after the last event of a closed service, wrong_mode.
     */
    [[nodiscard]] returned<std::optional<event>> next_event(timeout within = {})
    {
        for (;;) {
            tenure_event *next = nullptr;
            auto failure = detail::failure_of([&](tenure_error **err) {
                return tenure_service_next_event(get(), within.ms(), &next, err);
            });
            if (failure && failure->code() == errc::timeout)
                return std::optional<event>();
            if (failure)
                TENURE_FAIL_ *failure;
            const detail::owned<tenure_event> held(next);
            switch (held->kind) {
            case TENURE_EVENT_CAMPAIGN: return std::optional<event>(detail::copy_status(*held));
            case TENURE_EVENT_OBSERVER: return std::optional<event>(detail::copy_observation(*held));
            case TENURE_EVENT_LOG: return std::optional<event>(detail::copy_log(*held));
            default: break; // of a later version
            }
        }
    }

    /**
     * With `events=pull`, a descriptor for poll, epoll and event loops: readable while next_event has an event, or the
     * end, to give. Only watch it; it ends with the service. Errors: wrong_mode.
     */
    [[nodiscard]] returned<int> event_fd() const
    {
        int fd = -1;
        auto failure =
            detail::failure_of([&](tenure_error **err) { return tenure_service_event_fd(get(), &fd, err); });
        if (failure)
            TENURE_FAIL_ *failure;
        return fd;
    }

    /**
     * Sets who gets log lines (option `log_level`); a second call takes the first one's place, and an empty function
     * drops them. With `events=pull` they come from next_event instead. Errors: wrong_mode, closed.
     */
    returned<void> set_log_handler(log_handler on_log)
    {
        if (!on_log)
            on_log = [](const log_record &) {};
        auto *user_data = keep(std::move(on_log));
        auto failure = detail::failure_of([&](tenure_error **err) {
            return tenure_service_set_log_callback(get(), &detail::call<log_record, detail::copy_log>, user_data,
                                                   &detail::drop<log_record>, err);
        });
        if (failure)
            TENURE_FAIL_ *failure;
        return detail::done();
    }

    /**
     * Closes the service: leadership ends at once, every candidacy is withdrawn, every campaign and observer gets its
     * last event. Waits for etcd to confirm, by default for `call_timeout`. When it succeeds no callback runs any more.
     * Closing twice is fine. Errors: pending: not confirmed yet; the library goes on by itself, and calling again waits
     * on. wrong_thread inside a callback of this service.
     */
    returned<void> close(timeout within = {})
    {
        auto failure = detail::failure_of(
            [&](tenure_error **err) { return tenure_service_close(get(), within.ms(), err); });
        if (failure)
            TENURE_FAIL_ *failure;
        return detail::done();
    }

    /** The handle, for functions of tenure.h; it stays this object's. */
    [[nodiscard]] tenure_service *get() const noexcept { return handle_.get(); }

private:
#ifdef TENURE_NO_EXCEPTIONS
    explicit service(tenure_service *handle) : handle_(handle) {}
#else
    service(tenure_service *handle, std::shared_ptr<exception_handler> on_exception)
        : on_exception_(std::move(on_exception)), handle_(handle)
    {
    }
#endif

    returned<tenure::campaign> stand(std::string_view election, const tenure_campaign_options *with,
                                     status_handler on_event)
    {
        if (auto failure = detail::nul_in_election(election))
            TENURE_FAIL_ *failure;
        const std::string name(election);
        const tenure_event_fn call = on_event ? &detail::call<status, detail::copy_status> : tenure_event_fn(nullptr);
        auto *user_data = keep(std::move(on_event));
        const tenure_drop_fn drop = user_data != nullptr ? &detail::drop<status> : tenure_drop_fn(nullptr);
        tenure_campaign *made = nullptr;
        auto failure = detail::failure_of([&](tenure_error **err) {
            return tenure_service_campaign(get(), name.c_str(), with, call, user_data, drop, &made, err);
        });
        if (failure)
            TENURE_FAIL_ *failure;
        return tenure::campaign(made);
    }

    /** A function as user_data, which the C library drops whether the call that takes it succeeds or fails. */
    template <class Event>
    detail::callback<Event> *keep(std::function<void(const Event &)> function)
    {
        if (!function)
            return nullptr;
#ifdef TENURE_NO_EXCEPTIONS
        return new detail::callback<Event>{std::move(function)};
#else
        return new detail::callback<Event>{std::move(function), on_exception_};
#endif
    }

#ifndef TENURE_NO_EXCEPTIONS
    std::shared_ptr<exception_handler> on_exception_;
#endif
    detail::owned<tenure_service> handle_;
};

#undef TENURE_FAIL_

} // inline namespace
} // namespace tenure

#endif // TENURE_HPP
