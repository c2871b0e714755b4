/* As host.c, for what only C++ has: exceptions, and objects that end by themselves. */
#include <tenure.hpp>

#include <cstdlib>
#include <cstring>
#include <future>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <thread>

#include <unistd.h>

namespace {

const char *name;

tenure::service opened(const char *ttl, tenure::exception_handler on_exception = {})
{
    const char *endpoints = std::getenv("ETCD_ENDPOINTS");
    if (endpoints == nullptr)
        throw std::runtime_error("ETCD_ENDPOINTS isn't set");
    return tenure::service::open(
        {{"endpoints", endpoints}, {"service", "hosts"}, {"environment", name}, {"ttl", ttl}, {"call_timeout", "30s"}},
        std::move(on_exception));
}

void check(bool condition, const char *what)
{
    if (!condition) {
        std::cerr << what << '\n';
        std::_Exit(1);
    }
}

struct leading {
    tenure::service service;
    tenure::campaign campaign;

    explicit leading(const char *ttl) : service(opened(ttl)), campaign(service.campaign("e", {{"rejoin", "true"}}))
    {
        campaign.wait_leader();
    }
};

void scope()
{
    leading one("30s");
}

void thrown_and_caught()
{
    try {
        leading one("30s");
        throw std::runtime_error("caught");
    } catch (const std::runtime_error &) {
    }
}

void thrown_by_main()
{
    static leading one("2s");
    throw std::runtime_error("uncaught");
}

void thrown_by_thread()
{
    leading one("2s");
    std::thread([] { throw std::runtime_error("uncaught"); }).join();
}

/* Ends with the program's static objects. */
void static_object()
{
    static leading one("30s");
}

void static_object_and_exit_in_thread()
{
    static leading one("30s");
    std::thread([] { std::exit(3); }).join();
}

void thread_local_object()
{
    std::thread([] {
        thread_local std::unique_ptr<leading> one;
        one = std::make_unique<leading>("30s");
    }).join();
}

void terminated()
{
    leading one("2s");
    std::terminate();
}

/* Each event's callback throws; the function that is told so hears all of them. */
void thrown_by_callback()
{
    int told = 0, heard = 0;
    std::promise<void> ended;
    auto service = opened("30s", [&](std::exception_ptr thrown) {
        try {
            std::rethrow_exception(thrown);
        } catch (const std::runtime_error &) {
            told++;
        }
    });
    auto campaign = service.campaign("e", {}, [&](const tenure::status &status) {
        heard++;
        if (status.state == tenure::state::closed)
            ended.set_value();
        throw std::runtime_error("a callback's");
    });
    campaign.wait_leader();
    campaign.resign();
    ended.get_future().wait();
    service.close();
    check(told >= 2 && told == heard, "not everything that was thrown was told");
}

void thrown_by_callback_to_nobody()
{
    auto service = opened("2s");
    auto campaign = service.campaign("e", {}, [](const tenure::status &) { throw std::runtime_error("a callback's"); });
    for (;;)
        pause();
}

void thrown_by_the_function_that_is_told()
{
    auto service = opened("2s", [](std::exception_ptr) { throw std::logic_error("again"); });
    auto campaign = service.campaign("e", {}, [](const tenure::status &) { throw std::runtime_error("a callback's"); });
    for (;;)
        pause();
}

/* What a callback holds ends once, even if the campaign and its service end inside. Nobody waits for etcd's word. */
void ended_inside_a_callback()
{
    std::promise<void> ended;
    std::shared_ptr<std::promise<void>> held(&ended, [](std::promise<void> *last) { last->set_value(); });
    auto service = std::make_unique<tenure::service>(opened("2s"));
    std::promise<tenure::campaign *> made;
    auto future = made.get_future();
    auto campaign = service->campaign("e", {}, [&, held](const tenure::status &status) {
        if (status.state != tenure::state::leader)
            return;
        try {
            service->close();
            check(false, "closed inside a callback");
        } catch (const tenure::error &error) {
            check(error.code() == tenure::errc::wrong_thread, error.what());
        }
        { auto ends = std::move(*future.get()); }
        service.reset();
    });
    held.reset();
    made.set_value(&campaign);
    ended.get_future().wait();
}

const struct {
    const char *name;
    void (*function)();
} endings[] = {
    {"scope", scope},
    {"thrown-and-caught", thrown_and_caught},
    {"thrown-by-main", thrown_by_main},
    {"thrown-by-thread", thrown_by_thread},
    {"static-object", static_object},
    {"static-object-exit-in-thread", static_object_and_exit_in_thread},
    {"thread-local-object", thread_local_object},
    {"terminate", terminated},
    {"thrown-by-callback", thrown_by_callback},
    {"thrown-by-callback-to-nobody", thrown_by_callback_to_nobody},
    {"thrown-by-the-function-that-is-told", thrown_by_the_function_that_is_told},
    {"ended-inside-a-callback", ended_inside_a_callback},
};

} // namespace

int main(int count, char **arguments)
{
    for (const auto &ending : endings) {
        if (count == 4 && std::strcmp(arguments[1], ending.name) == 0) {
            name = arguments[2];
            ending.function();
            return 0;
        }
    }
    std::cerr << "no such ending\n";
    return 2;
}
