// Every call of tenure.hpp with exceptions: what it does, what it throws, and what callbacks may do.
#include "testing.hpp"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>
#include <type_traits>

using namespace std::chrono_literals;
using tenure::errc;
using tenure::state;

// The code that a call throws; ok if it throws nothing. The message must not be empty.
template <class Call>
errc thrown_by(Call call)
{
    try {
        call();
    } catch (const tenure::error &error) {
        EXPECT_STRNE(error.what(), "");
        EXPECT_STREQ(error.what(), error.message());
        EXPECT_STREQ(error.name(), tenure::name(error.code()));
        EXPECT_EQ(error.is_retriable(), tenure::is_retriable(error.code()));
        return error.code();
    }
    return errc::ok;
}

#define THROWS(code, call) EXPECT_EQ(errc::code, thrown_by([&] { static_cast<void>(call); }))

static_assert(std::is_nothrow_move_constructible_v<tenure::options> && !std::is_copy_constructible_v<tenure::options>);
static_assert(std::is_nothrow_move_constructible_v<tenure::campaign_options>);
static_assert(!std::is_copy_constructible_v<tenure::campaign_options>);
static_assert(std::is_nothrow_move_constructible_v<tenure::service> && !std::is_copy_constructible_v<tenure::service>);
static_assert(std::is_nothrow_move_assignable_v<tenure::service> && !std::is_copy_assignable_v<tenure::service>);
static_assert(std::is_nothrow_move_constructible_v<tenure::campaign> && !std::is_copy_constructible_v<tenure::campaign>);
static_assert(std::is_nothrow_move_constructible_v<tenure::observer> && !std::is_copy_constructible_v<tenure::observer>);
static_assert(std::is_base_of_v<std::runtime_error, tenure::error>);

static tenure::service open(const std::string &endpoints, std::string_view events = "callback",
                            tenure::exception_handler on_exception = {})
{
    return tenure::service::open({{"endpoints", endpoints},
                                  {"service", "cpp-tests"},
                                  {"dial_timeout", "30s"},
                                  {"call_timeout", "30s"},
                                  {"ttl", "2s"},
                                  {"log_level", "debug"},
                                  {"events", events}},
                                 std::move(on_exception));
}

// ---- What needs no store ----

TEST(codes, are_those_of_the_library)
{
    EXPECT_STREQ(tenure::name(errc::no_leader), "NO_LEADER");
    EXPECT_STREQ(tenure::name(static_cast<errc>(12345)), "UNKNOWN");
    EXPECT_TRUE(tenure::is_retriable(errc::timeout));
    EXPECT_FALSE(tenure::is_retriable(errc::invalid_name));
    EXPECT_FALSE(tenure::is_retriable(static_cast<errc>(12345)));
    // The last one that tenure.hpp knows is the last one that the library knows.
    EXPECT_STREQ(tenure::name(errc::internal), "INTERNAL");
    EXPECT_STREQ(tenure_code_name(static_cast<tenure_code>(errc::internal) + 1), "UNKNOWN");
}

TEST(version, is_that_of_the_header)
{
    EXPECT_EQ(tenure::version(), TENURE_VERSION_STRING);
}

TEST(timeouts, are_rounded_up_and_bounded)
{
    EXPECT_EQ(tenure::timeout().ms(), -1);
    EXPECT_EQ(tenure::timeout(0s).ms(), 0);
    EXPECT_EQ(tenure::timeout(3s).ms(), 3000);
    EXPECT_EQ(tenure::timeout(1ns).ms(), 1);
    EXPECT_EQ(tenure::timeout(std::chrono::duration<double>(0.0015)).ms(), 2);
    EXPECT_EQ(tenure::timeout((std::chrono::hours::max)()).ms(), INT32_MAX);
    EXPECT_EQ(tenure::timeout(-1ns).ms(), 0); // a fraction of nothing
    EXPECT_EQ(tenure::timeout(-1ms).ms(), -2);
    EXPECT_EQ(tenure::timeout((std::chrono::hours::min)()).ms(), -2);
    EXPECT_EQ(tenure::timeout(std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN())).ms(), -2);
}

TEST(options, say_what_is_wrong)
{
    THROWS(unknown_option, tenure::options::make({{"tll", "5s"}}));
    THROWS(invalid_value, tenure::options::make({{"ttl", "1s"}}));
    THROWS(unknown_option, tenure::campaign_options::make({{"rejon", "true"}}));
    THROWS(invalid_value, tenure::campaign_options::make({{"rejoin", "yes"}}));
    auto options = tenure::options::make();
    THROWS(unknown_option, options.set("nothing", "1"));
    THROWS(unknown_option, options.set(std::string_view("ttl\0x", 5), "5s"));
    THROWS(invalid_value, options.set("service", std::string_view("a\0b", 3)));
    THROWS(ok, options.set("ttl", "5s"));
    auto campaign_options = tenure::campaign_options::make();
    THROWS(invalid_value, campaign_options.set("value", std::string_view("a\0b", 3)));
    THROWS(ok, campaign_options.set("value", "x"));
    THROWS(value_too_large, campaign_options.set_value(std::string((1 << 20) + 1, 'x')));
    THROWS(ok, campaign_options.set_value(""));
}

TEST(options, that_were_moved_from_are_refused)
{
    auto options = tenure::options::make({{"service", "s"}});
    auto moved = std::move(options);
    EXPECT_EQ(options.get(), nullptr);
    THROWS(null_pointer, options.set("ttl", "5s"));
    THROWS(null_pointer, tenure::service::open(options));
    THROWS(ok, moved.set("ttl", "5s"));
    auto campaign_options = tenure::campaign_options::make();
    auto moved_too = std::move(campaign_options);
    THROWS(null_pointer, campaign_options.set("value", "x"));
    THROWS(null_pointer, campaign_options.set_value("x"));
}

TEST(opening, fails_with_a_reason)
{
    THROWS(invalid_value, tenure::service::open(tenure::options::make()));
    THROWS(unknown_option, tenure::service::open({{"sevrice", "s"}}));
    const auto start = std::chrono::steady_clock::now();
    // Nobody listens at port 1.
    THROWS(unavailable,
           tenure::service::open({{"endpoints", "http://127.0.0.1:1"}, {"service", "s"}, {"dial_timeout", "300ms"}}));
    EXPECT_LT(std::chrono::steady_clock::now() - start, in_time);
}

// ---- Elections ----

class calls : public on_every_store {};
ON_EVERY_STORE(calls);

TEST_P(calls, a_term_from_start_to_end)
{
    recorder<tenure::status> seen;
    auto service = open(endpoints());
    auto campaign = service.campaign(election(), {{"value", "host-a"}}, seen.handler());
    campaign.wait_leader(in_time);
    EXPECT_TRUE(campaign.is_leader());
    EXPECT_EQ(campaign.state(), state::leader);
    EXPECT_GT(campaign.token(), 0);
    EXPECT_GT(campaign.remaining(), 0ms);
    EXPECT_LE(campaign.remaining(), 2s);

    auto leader = service.leader(election());
    ASSERT_TRUE(leader);
    EXPECT_EQ(leader->value, "host-a");
    EXPECT_EQ(leader->token, campaign.token());
    EXPECT_NE(leader->key.find(election()), std::string::npos);
    EXPECT_NE(leader->lease, 0);

    const std::string bytes("\0\xff b", 4);
    campaign.proclaim(bytes);
    EXPECT_EQ(service.leader(election(), in_time)->value, bytes);
    campaign.resign();
    EXPECT_FALSE(campaign.is_leader());
    EXPECT_EQ(campaign.token(), 0);
    EXPECT_EQ(campaign.remaining(), 0ms);
    EXPECT_FALSE(service.leader(election()));
    ASSERT_TRUE(seen.saw_closed());
    EXPECT_EQ(campaign.state(), state::closed);

    const auto events = seen.all();
    EXPECT_EQ(events.front().state, state::follower);
    EXPECT_EQ(events.front().campaign, campaign.get());
    EXPECT_FALSE(events.front().deadline);
    EXPECT_EQ(events.back().state, state::closed);
    for (const auto &event : events) {
        EXPECT_EQ(event.election, election());
        EXPECT_EQ(event.reason, errc::ok);
        EXPECT_EQ(event.closed, event.state == state::closed);
        if (event.state == state::leader) {
            EXPECT_EQ(event.token, leader->token);
            EXPECT_EQ(event.value, "host-a");
            ASSERT_TRUE(event.deadline);
            EXPECT_LT(*event.deadline - tenure::boottime_clock::now(), 2s);
            EXPECT_NE(event.cluster_id, 0U);
            EXPECT_GT(event.revision, 0);
        }
    }
}

TEST_P(calls, each_error_has_its_code)
{
    auto service = open(endpoints());
    auto leading = service.campaign(election(), {{"value", "first"}});
    leading.wait_leader(in_time);
    THROWS(campaign_in_progress, service.campaign(election()));
    THROWS(invalid_name, service.campaign(std::string(1025, 'n')));
    THROWS(invalid_name, service.campaign("\xff\xfe"));
    THROWS(invalid_name, service.campaign(std::string_view("a\0b", 3)));
    THROWS(invalid_name, service.observe(std::string_view("a\0b", 3)));
    THROWS(invalid_name, service.leader(std::string_view("a\0b", 3)));
    THROWS(invalid_name, service.candidates(std::string_view("a\0b", 3)));
    THROWS(invalid_value, service.campaign(election("-2"), {{"step_down_margin", "1900ms"}}));
    THROWS(value_too_large, leading.proclaim(std::string((1 << 20) + 1, 'x')));
    THROWS(invalid_argument, leading.wait_leader(-5ms));
    THROWS(invalid_argument, leading.proclaim("x", -5ms));
    THROWS(invalid_argument, leading.resign(-5ms));
    THROWS(invalid_argument, leading.resign_leader(-5ms));
    THROWS(invalid_argument, service.leader(election(), -5ms));
    THROWS(invalid_argument, service.candidates(election(), -5ms));
    THROWS(invalid_argument, service.close(-5ms));
    THROWS(wrong_mode, service.next_event(0s));
    THROWS(wrong_mode, service.event_fd());

    auto other = open(endpoints());
    auto waiting = other.campaign(election(), tenure::campaign_options::make({{"value", "second"}}));
    THROWS(timeout, waiting.wait_leader(50ms));
    THROWS(not_leader, waiting.proclaim("x"));
    THROWS(not_leader, waiting.resign_leader());
    EXPECT_EQ(waiting.state(), state::follower);
    const auto both = service.candidates(election());
    ASSERT_EQ(both.size(), 2U);
    EXPECT_EQ(both[0].value, "first");
    EXPECT_EQ(both[1].value, "second");
    EXPECT_LT(both[0].token, both[1].token);

    leading.resign_leader();
    waiting.wait_leader(in_time);
    EXPECT_EQ(waiting.token(), both[1].token);
    THROWS(closed, leading.wait_leader(in_time));
    THROWS(not_leader, leading.proclaim("x"));
    THROWS(ok, leading.resign());
    other.close();
    other.close();
    EXPECT_TRUE(service.candidates(election()).empty());
    THROWS(closed, other.campaign("e"));
    THROWS(closed, other.observe("e"));
    THROWS(closed, other.leader("e"));
    THROWS(closed, other.candidates("e"));
    THROWS(closed, other.set_log_handler({}));
    THROWS(closed, waiting.wait_leader(in_time));
}

TEST_P(calls, a_candidate_that_may_not_wait_longer_is_told)
{
    recorder<tenure::status> seen;
    auto service = open(endpoints()), other = open(endpoints());
    auto leading = service.campaign(election());
    leading.wait_leader(in_time);
    auto waiting = other.campaign(election(), {{"wait_limit", "100ms"}}, seen.handler());
    THROWS(wait_limit, waiting.wait_leader(in_time));
    ASSERT_TRUE(seen.saw_closed());
    EXPECT_TRUE(seen.saw([](const auto &event) {
        return event.state == state::error && event.reason == errc::wait_limit && !event.message.empty();
    }));
}

TEST_P(calls, an_observer_sees_who_leads)
{
    recorder<tenure::observation> seen;
    auto service = open(endpoints()), other = open(endpoints());
    auto observer = other.observe(election(), seen.handler());
    ASSERT_TRUE(seen.saw([](const auto &event) { return event.connected && !event.leader; }));
    auto campaign = service.campaign(election(), {{"value", "seen"}});
    campaign.wait_leader(in_time);
    const auto token = campaign.token();
    ASSERT_TRUE(seen.saw([&](const auto &event) {
        return event.leader && event.leader->value == "seen" && event.leader->token == token &&
               event.leader->lease != 0 && !event.leader->key.empty() && event.observer == observer.get();
    }));
    campaign.resign();
    ASSERT_TRUE(seen.saw([&](const auto &event) { return !event.leader && event.revision > token; }));
    observer.close();
    observer.close();
    ASSERT_TRUE(seen.saw_closed());
    EXPECT_EQ(seen.all().front().election, election());
}

TEST_P(calls, the_default_election_has_a_name)
{
    auto service = tenure::service::open({{"endpoints", endpoints()}, {"service", "cpp-tests-default"}});
    auto campaign = service.campaign({});
    campaign.wait_leader(in_time);
    EXPECT_EQ(service.leader()->token, campaign.token());
    EXPECT_EQ(service.leader("default")->token, campaign.token());
}

TEST_P(calls, events_can_be_pulled)
{
    auto service = open(endpoints(), "pull");
    THROWS(wrong_mode, service.set_log_handler([](const tenure::log_record &) {}));
    THROWS(wrong_mode, service.campaign(election(), {}, [](const tenure::status &) {}));
    THROWS(wrong_mode, service.observe(election(), [](const tenure::observation &) {}));
    THROWS(invalid_argument, service.next_event(-5ms));
    auto observer = service.observe(election());
    auto campaign = service.campaign(election());
    pollfd readable{service.event_fd(), POLLIN, 0};
    ASSERT_EQ(poll(&readable, 1, 60000), 1);
    campaign.wait_leader(in_time);

    std::vector<state> states;
    bool saw_leader = false, saw_log = false, is_closing = false;
    while (true) {
        std::optional<tenure::event> event;
        try {
            event = service.next_event(is_closing ? in_time : 5s);
        } catch (const tenure::error &error) {
            EXPECT_EQ(error.code(), errc::closed);
            break;
        }
        ASSERT_TRUE(event) << "no event in time";
        if (const auto *status = std::get_if<tenure::status>(&*event)) {
            EXPECT_EQ(status->campaign, campaign.get());
            states.push_back(status->state);
        } else if (const auto *observation = std::get_if<tenure::observation>(&*event)) {
            EXPECT_EQ(observation->observer, observer.get());
            saw_leader |= observation->leader.has_value();
        } else {
            saw_log |= !std::get<tenure::log_record>(*event).message.empty();
        }
        if (saw_leader && states.size() == 2 && !is_closing) {
            service.close();
            is_closing = true;
        }
    }
    EXPECT_EQ(states, (std::vector{state::follower, state::leader, state::closed}));
    EXPECT_TRUE(saw_log);
    THROWS(closed, service.next_event(0s));
}

TEST(pulling, ends_without_an_event_when_the_time_is_over)
{
    auto service = tenure::service::open({{"endpoints", "memory://cpp-quiet"}, {"service", "s"}, {"events", "pull"}});
    EXPECT_FALSE(service.next_event(0s));
    EXPECT_FALSE(service.next_event(20ms));
    auto waiter = std::async(std::launch::async, [&] { return thrown_by([&] { auto event = service.next_event(); }); });
    service.close();
    EXPECT_EQ(waiter.get(), errc::closed);
}

TEST_P(calls, log_lines_go_to_their_handler)
{
    std::promise<tenure::log_record> line;
    std::atomic_bool has_line = false;
    auto service = open(endpoints());
    service.set_log_handler([&](const tenure::log_record &record) {
        if (!has_line.exchange(true))
            line.set_value(record);
    });
    auto campaign = service.campaign(election());
    campaign.wait_leader(in_time);
    service.close(); // which ends the lease, and that is worth a line
    auto told = line.get_future();
    ASSERT_EQ(told.wait_for(in_time), std::future_status::ready);
    const auto record = told.get();
    EXPECT_EQ(record.level, tenure::level::info);
    EXPECT_NE(record.message.find("lease"), std::string::npos);
}

// A second handler takes the first one's place, and none takes the second one's; each is dropped when its place is taken.
TEST_P(calls, a_log_handler_can_be_replaced)
{
    auto first = std::make_shared<int>(0), second = std::make_shared<int>(0);
    auto service = open(endpoints());
    service.set_log_handler([first](const tenure::log_record &) { ++*first; });
    service.set_log_handler([second](const tenure::log_record &) { ++*second; });
    EXPECT_EQ(first.use_count(), 1);
    service.set_log_handler({});
    EXPECT_EQ(second.use_count(), 1);
    auto campaign = service.campaign(election());
    campaign.wait_leader(in_time);
    service.close();
    EXPECT_EQ(*first + *second, 0);
}

// ---- Callbacks ----

TEST_P(calls, what_a_callback_throws_goes_to_the_handler)
{
    std::mutex mutex;
    std::vector<std::string> caught;
    recorder<tenure::status> seen;
    auto service = open(endpoints(), "callback", [&](std::exception_ptr thrown) {
        try {
            std::rethrow_exception(std::move(thrown));
        } catch (const std::exception &exception) {
            const std::lock_guard lock(mutex);
            caught.emplace_back(exception.what());
        }
    });
    auto campaign = service.campaign(election(), {}, [&](const tenure::status &status) {
        seen.add(status);
        throw std::runtime_error("from the campaign");
    });
    recorder<tenure::observation> observed;
    auto observer = service.observe(election(), [&](const tenure::observation &observation) {
        observed.add(observation);
        throw std::runtime_error("from the observer");
    });
    service.set_log_handler([](const tenure::log_record &) -> void { throw std::runtime_error("from the log"); });
    campaign.wait_leader(in_time);
    EXPECT_TRUE(campaign.is_leader());
    // What is unread when a term ends is withdrawn.
    EXPECT_TRUE(seen.saw([](const auto &event) { return event.state == state::leader; }));
    EXPECT_TRUE(observed.saw([](const auto &event) { return event.leader.has_value(); }));
    service.close();
    EXPECT_EQ(states(seen), (std::vector{state::follower, state::leader, state::closed}));
    const std::lock_guard lock(mutex);
    EXPECT_EQ(std::count(caught.begin(), caught.end(), "from the campaign"), 3);
    EXPECT_GE(std::count(caught.begin(), caught.end(), "from the observer"), 2);
    EXPECT_GE(std::count(caught.begin(), caught.end(), "from the log"), 1);
}

TEST(exceptions_death, end_the_program_where_nobody_asked_for_them)
{
    const auto lead = [](tenure::exception_handler on_exception) {
        auto service = open("memory://cpp-death", "callback", std::move(on_exception));
        auto campaign = service.campaign("e", {}, [](const tenure::status &) -> void {
            throw std::runtime_error("nobody takes this");
        });
        std::this_thread::sleep_for(in_time);
    };
    EXPECT_EXIT(lead({}), testing::KilledBySignal(SIGABRT), "nobody takes this");
    EXPECT_EXIT(lead([](std::exception_ptr thrown) { std::rethrow_exception(std::move(thrown)); }),
                testing::KilledBySignal(SIGABRT), "nobody takes this");
}

TEST_P(calls, a_callback_may_call_everything_but_the_end_of_its_service)
{
    recorder<tenure::status> seen;
    std::promise<errc> closing;
    auto service = open(endpoints());
    auto campaign = service.campaign(election(), {}, [&](const tenure::status &status) {
        if (status.state == state::leader) {
            auto other = service.campaign(election("-other"));
            other.wait_leader(in_time);
            other.resign();
            EXPECT_TRUE(service.leader(election()));
            closing.set_value(thrown_by([&] { service.close(); }));
        }
        seen.add(status);
    });
    EXPECT_EQ(closing.get_future().get(), errc::wrong_thread);
    campaign.resign();
    EXPECT_TRUE(seen.saw_closed());
}

// A callback's state is destroyed once: after the last event, and also when the call fails.
TEST_P(calls, what_a_callback_holds_ends_with_it)
{
    auto held = std::make_shared<int>(0);
    const auto handler = [held](const auto &) { static_cast<void>(held); };
    {
        auto service = open(endpoints());
        auto campaign = service.campaign(election(), {}, handler);
        auto observer = service.observe(election(), handler);
        service.set_log_handler(handler);
        EXPECT_EQ(held.use_count(), 5);
        THROWS(campaign_in_progress, service.campaign(election(), {}, handler));
        THROWS(invalid_name, service.campaign("\xff", {}, handler));
        THROWS(invalid_name, service.campaign(std::string_view("\0", 1), {}, handler));
        THROWS(unknown_option, service.campaign("e", {{"x", "y"}}, handler));
        THROWS(invalid_name, service.observe("\xff", handler));
        EXPECT_EQ(held.use_count(), 5);
        service.close();
        THROWS(closed, service.set_log_handler(handler));
    }
    EXPECT_EQ(held.use_count(), 2);
}

// ---- Lives ----

TEST_P(calls, objects_that_were_moved_from_answer_with_errors)
{
    recorder<tenure::status> seen;
    auto service = open(endpoints());
    auto campaign = service.campaign(election(), {}, seen.handler());
    auto observer = service.observe(election());
    auto moved_service = std::move(service);
    auto moved_campaign = std::move(campaign);
    auto moved_observer = std::move(observer);
    moved_campaign.wait_leader(in_time);
    EXPECT_FALSE(campaign.is_leader());
    EXPECT_EQ(campaign.token(), 0);
    EXPECT_EQ(campaign.remaining(), 0ms);
    EXPECT_EQ(campaign.state(), state::none);
    THROWS(null_pointer, campaign.wait_leader());
    THROWS(null_pointer, campaign.proclaim("x"));
    THROWS(null_pointer, campaign.resign());
    THROWS(null_pointer, campaign.resign_leader());
    THROWS(null_pointer, observer.close());
    THROWS(null_pointer, service.campaign("e", {}, seen.handler()));
    THROWS(null_pointer, service.observe("e", [](const tenure::observation &) {}));
    THROWS(null_pointer, service.leader());
    THROWS(null_pointer, service.candidates());
    THROWS(null_pointer, service.next_event());
    THROWS(null_pointer, service.event_fd());
    THROWS(null_pointer, service.set_log_handler({}));
    THROWS(null_pointer, service.close());
    // Assigning ends what was there before.
    auto other = moved_service.campaign(election("-other"));
    other.wait_leader(in_time);
    moved_campaign = std::move(other);
    EXPECT_TRUE(seen.saw_closed());
    EXPECT_TRUE(moved_campaign.is_leader());
    EXPECT_THROW(moved_service = open("memory://"), tenure::error);
    EXPECT_TRUE(moved_campaign.is_leader());
}

TEST_P(calls, objects_may_be_assigned_to_themselves)
{
    auto service = open(endpoints());
    auto campaign = service.campaign(election());
    campaign.wait_leader(in_time);
    auto &same_service = service;
    auto &same_campaign = campaign;
    service = std::move(same_service);
    campaign = std::move(same_campaign);
    EXPECT_TRUE(campaign.is_leader());
    EXPECT_TRUE(service.leader(election()));
}

// What a callback holds lives until the callback has returned, whatever it ends or replaces meanwhile.
TEST_P(calls, objects_may_end_inside_their_own_callback)
{
    struct fixture {
        recorder<tenure::status> statuses;
        recorder<tenure::observation> observations;
        std::optional<tenure::service> service;
        std::optional<tenure::campaign> campaign;
        std::optional<tenure::observer> observer;
        std::mutex made; // the callbacks wait until both objects are there
    } on;
    std::unique_lock making(on.made);
    on.service.emplace(open(endpoints()));
    const std::string text(100, 't'); // long enough to be on the heap
    on.campaign.emplace(on.service->campaign(election(), {}, [&on, text](const tenure::status &status) {
        const std::lock_guard lock(on.made);
        if (status.state == state::leader)
            on.campaign.reset();
        EXPECT_EQ(text, std::string(100, 't'));
        on.statuses.add(status);
    }));
    on.observer.emplace(on.service->observe(election(), [&on, text](const tenure::observation &observation) {
        const std::lock_guard lock(on.made);
        on.observer.reset();
        EXPECT_EQ(text, std::string(100, 't'));
        on.observations.add(observation);
    }));
    making.unlock();
    EXPECT_TRUE(on.statuses.saw_closed());
    EXPECT_TRUE(on.observations.saw_closed());
    on.service->close();
}

TEST(log_handlers, may_replace_themselves)
{
    std::promise<std::string> first, second;
    // Nobody listens at port 1, which is worth lines again and again.
    auto service = tenure::service::open({{"endpoints", "http://127.0.0.1:1"},
                                          {"service", "s"},
                                          {"open_offline", "true"},
                                          {"dial_timeout", "100ms"},
                                          {"call_timeout", "100ms"},
                                          {"log_level", "debug"}});
    const std::string text(100, 't'); // long enough to be on the heap
    service.set_log_handler([&, text](const tenure::log_record &) {
        service.set_log_handler([&second, is_told = false](const tenure::log_record &record) mutable {
            if (!std::exchange(is_told, true))
                second.set_value(record.message);
        });
        first.set_value(text);
    });
    auto campaign = service.campaign("e");
    auto told = first.get_future();
    ASSERT_EQ(told.wait_for(in_time), std::future_status::ready);
    EXPECT_EQ(told.get(), text);
    auto told_again = second.get_future();
    ASSERT_EQ(told_again.wait_for(in_time), std::future_status::ready);
    EXPECT_NE(told_again.get(), "");
}

TEST_P(calls, a_campaign_that_ends_withdraws)
{
    recorder<tenure::status> seen;
    auto service = open(endpoints()), other = open(endpoints());
    std::optional<tenure::campaign> first(service.campaign(election(), {}, seen.handler()));
    first->wait_leader(in_time);
    auto second = other.campaign(election());
    first.reset();
    second.wait_leader(in_time);
    EXPECT_TRUE(seen.saw_closed());
    EXPECT_EQ(seen.all().back().campaign, nullptr);
}

TEST_P(calls, campaigns_and_observers_may_outlive_their_service)
{
    recorder<tenure::status> seen;
    std::optional<tenure::service> service(open(endpoints()));
    auto campaign = service->campaign(election(), {}, seen.handler());
    auto observer = service->observe(election());
    campaign.wait_leader(in_time);
    service.reset();
    EXPECT_TRUE(seen.saw_closed());
    EXPECT_FALSE(campaign.is_leader());
    EXPECT_EQ(campaign.state(), state::closed);
    THROWS(closed, campaign.wait_leader());
    THROWS(ok, campaign.resign());
    THROWS(ok, observer.close());
}

TEST_P(calls, a_service_may_end_inside_its_own_callback)
{
    auto held = std::make_shared<std::optional<tenure::service>>(open(endpoints()));
    recorder<tenure::status> seen;
    auto campaign = (*held)->campaign(election(), {}, [&](const tenure::status &status) {
        if (status.state == state::leader)
            held->reset();
        seen.add(status);
    });
    EXPECT_TRUE(seen.saw_closed());
}

TEST_P(calls, a_service_can_be_used_by_many_threads)
{
    auto service = open(endpoints());
    std::vector<std::thread> threads;
    std::atomic_int led = 0;
    for (int i = 0; i < 8; i++) {
        threads.emplace_back([&, i] {
            auto campaign = service.campaign(election(("-" + std::to_string(i)).c_str()));
            campaign.wait_leader(in_time);
            led += campaign.is_leader() ? 1 : 0;
            campaign.resign();
        });
    }
    for (auto &thread : threads)
        thread.join();
    EXPECT_EQ(led, 8);
}

// ---- Processes ----

namespace {

// A candidate in a process of its own, which tells its token and goes on leading until it is killed.
class rival {
public:
    rival(const std::string &endpoints, const std::string &election)
    {
        int ends[2];
        if (pipe(ends) != 0)
            std::abort();
        pid_ = fork();
        if (pid_ == 0) {
            close(ends[0]);
            try {
                auto service = open(endpoints);
                auto campaign = service.campaign(election, {{"value", "rival"}});
                campaign.wait_leader(in_time);
                const std::int64_t token = campaign.token();
                if (write(ends[1], &token, sizeof token) == sizeof token)
                    std::this_thread::sleep_for(in_time);
            } catch (const std::exception &exception) {
                std::fprintf(stderr, "rival: %s\n", exception.what());
            }
            _exit(1);
        }
        close(ends[1]);
        from_ = ends[0];
    }
    rival(const rival &) = delete;
    rival &operator=(const rival &) = delete;
    ~rival()
    {
        kill();
        close(from_);
    }

    // The token with which it leads; 0 if it ended before.
    std::int64_t token() const
    {
        std::int64_t token = 0;
        return read(from_, &token, sizeof token) == sizeof token ? token : 0;
    }

    void kill()
    {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            waitpid(pid_, nullptr, 0);
        }
        pid_ = 0;
    }

private:
    pid_t pid_ = 0;
    int from_ = -1;
};

} // namespace

TEST(processes, lead_one_after_the_other)
{
    auto service = open(etcd());
    auto first = service.campaign("processes");
    first.wait_leader(in_time);
    const auto first_token = first.token();
    rival other(etcd(), "processes");
    while (service.candidates("processes").size() < 2)
        std::this_thread::sleep_for(10ms);
    EXPECT_TRUE(first.is_leader());
    first.resign();
    const auto rival_token = other.token();
    EXPECT_GT(rival_token, first_token);
    EXPECT_EQ(service.leader("processes")->value, "rival");
    auto again = service.campaign("processes");
    EXPECT_FALSE(again.is_leader());
    other.kill();
    again.wait_leader(in_time);
    EXPECT_GT(again.token(), rival_token);
}

TEST(processes, a_child_owns_nothing_of_its_parents)
{
    auto service = open("memory://cpp-fork");
    auto campaign = service.campaign("e");
    campaign.wait_leader(in_time);
    const pid_t child = fork();
    if (child == 0) {
        const bool is_well = !campaign.is_leader() && campaign.state() == state::none &&
                             thrown_by([&] { service.close(); }) == errc::forked &&
                             thrown_by([&] { campaign.resign(); }) == errc::forked;
        _exit(is_well ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT_TRUE(campaign.is_leader());
}
