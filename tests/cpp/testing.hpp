// What the tests of tenure.hpp share: stores to run on, services, and a recorder of events that can be waited for.
#ifndef TESTING_HPP
#define TESTING_HPP

#include <tenure.hpp>

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

// Longer than anything takes, so that what hangs is a failure.
constexpr std::chrono::seconds in_time{60};

inline std::string etcd()
{
    const char *endpoints = std::getenv("ETCD_ENDPOINTS");
    return endpoints != nullptr ? endpoints : "ETCD_ENDPOINTS is not set";
}

// Keeps events, and lets a test wait for one.
template <class Event>
class recorder {
public:
    void add(const Event &event)
    {
        const std::lock_guard lock(mutex_);
        events_.push_back(event);
        changed_.notify_all();
    }

    std::function<void(const Event &)> handler()
    {
        return [this](const Event &event) { add(event); };
    }

    // Whether an event like this has come, or comes in time.
    template <class Is>
    bool saw(Is is)
    {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, in_time, [&] {
            for (const Event &event : events_) {
                if (is(event))
                    return true;
            }
            return false;
        });
    }

    bool saw_closed()
    {
        return saw([](const Event &event) { return event.closed; });
    }

    std::vector<Event> all()
    {
        const std::lock_guard lock(mutex_);
        return events_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Event> events_;
};

inline std::vector<tenure::state> states(recorder<tenure::status> &of)
{
    std::vector<tenure::state> found;
    for (const auto &event : of.all())
        found.push_back(event.state);
    return found;
}

// Every test with this runs on the store in memory and on a real etcd, in elections named after it.
class on_every_store : public testing::TestWithParam<const char *> {
protected:
    std::string endpoints() const { return GetParam() == std::string("memory") ? "memory://cpp-tests" : etcd(); }

    std::string election(const char *more = "") const
    {
        return std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) + more;
    }
};

#define ON_EVERY_STORE(name)                                                                                           \
    INSTANTIATE_TEST_SUITE_P(store, name, testing::Values("memory", "etcd"),                                           \
                             [](const auto &store) { return std::string(store.param); })

#endif
