// tenure.hpp without exceptions: every call answers with its value or its error. Compiled with -fno-exceptions and
// -fno-rtti.
#include "testing.hpp"

#ifndef TENURE_NO_EXCEPTIONS
#error "this is to be compiled with -fno-exceptions"
#endif

using namespace std::chrono_literals;
using tenure::errc;

static tenure::result<tenure::service> open(const std::string &endpoints, std::string_view events = "callback")
{
    return tenure::service::open({{"endpoints", endpoints},
                                  {"service", "cpp-values"},
                                  {"dial_timeout", "30s"},
                                  {"call_timeout", "30s"},
                                  {"events", events}});
}

#define FAILS(wanted, call)                                                                                            \
    do {                                                                                                               \
        const auto answer = (call);                                                                                    \
        ASSERT_FALSE(answer);                                                                                          \
        EXPECT_EQ(answer.error().code(), errc::wanted) << answer.error().what();                                       \
        EXPECT_STRNE(answer.error().message(), "");                                                                    \
    } while (0)

class values : public on_every_store {};
ON_EVERY_STORE(values);

TEST_P(values, a_term_from_start_to_end)
{
    recorder<tenure::status> seen;
    auto service = open(endpoints());
    ASSERT_TRUE(service) << service.error().what();
    auto campaign = service->campaign(election(), {{"value", "a"}}, seen.handler());
    ASSERT_TRUE(campaign);
    ASSERT_TRUE(campaign->wait_leader(in_time));
    EXPECT_TRUE(campaign->is_leader());
    auto leader = service->leader(election());
    ASSERT_TRUE(leader && *leader);
    EXPECT_EQ((*leader)->value, "a");
    EXPECT_TRUE(campaign->proclaim("b"));
    auto candidates = service->candidates(election());
    ASSERT_TRUE(candidates);
    ASSERT_EQ(candidates->size(), 1U);
    EXPECT_EQ(candidates->front().value, "b");
    EXPECT_TRUE(campaign->resign());
    leader = service->leader(election());
    ASSERT_TRUE(leader);
    EXPECT_FALSE(*leader);
    EXPECT_TRUE(seen.saw_closed());
    EXPECT_TRUE(service->close());
}

TEST_P(values, each_failure_is_an_error)
{
    auto service = open(endpoints());
    ASSERT_TRUE(service) << service.error().what();
    auto campaign = service->campaign(election());
    ASSERT_TRUE(campaign);
    ASSERT_TRUE(campaign->wait_leader(in_time));
    FAILS(campaign_in_progress, service->campaign(election()));
    FAILS(invalid_name, service->campaign("\xff"));
    FAILS(invalid_name, service->campaign(std::string_view("\0", 1)));
    FAILS(unknown_option, service->campaign("e", {{"x", "y"}}));
    FAILS(invalid_name, service->observe(std::string_view("\0", 1)));
    FAILS(invalid_name, service->leader(std::string_view("\0", 1)));
    FAILS(invalid_name, service->candidates(std::string_view("\0", 1)));
    FAILS(wrong_mode, service->next_event(0s));
    FAILS(wrong_mode, service->event_fd());
    FAILS(invalid_argument, campaign->resign(-5ms));
    auto observer = service->observe(election());
    ASSERT_TRUE(observer);
    EXPECT_TRUE(observer->close());
    EXPECT_TRUE(service->set_log_handler({}));
    EXPECT_TRUE(service->close());
    FAILS(closed, service->set_log_handler({}));
    FAILS(closed, campaign->wait_leader());
    FAILS(not_leader, campaign->resign_leader());
    FAILS(not_leader, campaign->proclaim("x"));
}

TEST_P(values, events_can_be_pulled)
{
    auto service = open(endpoints(), "pull");
    ASSERT_TRUE(service);
    auto campaign = service->campaign(election());
    ASSERT_TRUE(campaign);
    ASSERT_TRUE(service->event_fd());
    ASSERT_TRUE(campaign->wait_leader(in_time));
    ASSERT_TRUE(service->close());
    std::vector<tenure::state> states;
    auto event = service->next_event(in_time);
    for (; event && *event; event = service->next_event(in_time))
        states.push_back(std::get<tenure::status>(**event).state);
    ASSERT_FALSE(event);
    EXPECT_EQ(event.error().code(), errc::closed);
    // LEADER is withdrawn when it is unread at the end of its term.
    EXPECT_EQ(states.back(), tenure::state::closed);
}

TEST(options, that_are_wrong_are_errors)
{
    FAILS(unknown_option, tenure::options::make({{"tll", "5s"}}));
    FAILS(invalid_value, tenure::campaign_options::make({{"rejoin", "yes"}}));
    FAILS(unknown_option, tenure::service::open({{"tll", "5s"}}));
    FAILS(invalid_value, tenure::service::open({}));
    auto options = tenure::options::make();
    ASSERT_TRUE(options);
    FAILS(invalid_value, options->set("ttl", "1s"));
    EXPECT_TRUE(options->set("ttl", "5s"));
    auto campaign_options = tenure::campaign_options::make();
    ASSERT_TRUE(campaign_options);
    FAILS(value_too_large, campaign_options->set_value(std::string((1 << 20) + 1, 'x')));
    EXPECT_TRUE(campaign_options->set_value("x"));
}

TEST(results_death, are_not_taken_for_what_they_are_not)
{
    EXPECT_DEATH(static_cast<void>(tenure::options::make({{"tll", "5s"}}).value()), "");
    EXPECT_DEATH(static_cast<void>(tenure::options::make().error()), "");
    EXPECT_DEATH(tenure::result<void>(tenure::error(errc::closed, "closed")).value(), "");
    EXPECT_DEATH(static_cast<void>(tenure::result<void>().error()), "");
}
