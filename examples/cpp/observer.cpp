/*
 * Tells who leads an election, without taking part.
 *
 *     observer http://127.0.0.1:2379 worker billing       until SIGINT or SIGTERM
 *     observer http://127.0.0.1:2379 worker billing 3     for 3 seconds
 *
 * It prints a line whenever that changes:
 *
 *     nobody leads
 *     alpha leads, token 12
 *     alpha leads, token 12, as far as known: REASON      etcd is out of reach; it may be another by now
 *     closed
 */
#include <tenure.hpp>

#include <csignal>
#include <ctime>

#include <algorithm>
#include <iostream>
#include <system_error>

namespace {

// A value is bytes; on the screen it is text, and on one line.
std::string on_one_line(std::string text)
{
    std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < ' '; }, ' ');
    return text;
}

// Runs on the library's callback thread. Each event is the whole state, so one that was missed is no loss.
void print(const tenure::observation &seen)
{
    if (seen.closed) {
        std::cout << "closed" << std::endl;
        return;
    }
    if (seen.leader)
        std::cout << on_one_line(seen.leader->value) << " leads, token " << seen.leader->token;
    else
        std::cout << "nobody leads";
    if (!seen.connected)
        std::cout << ", as far as known: " << seen.message;
    std::cout << std::endl;
}

// Signals that end the program. Blocked before there are threads, so that none of them is interrupted.
class ending {
public:
    ending()
    {
        sigemptyset(&signals_);
        sigaddset(&signals_, SIGINT);
        sigaddset(&signals_, SIGTERM);
        if (const int failure = pthread_sigmask(SIG_BLOCK, &signals_, nullptr))
            throw std::system_error(failure, std::generic_category(), "pthread_sigmask");
    }

    // Until one comes, or so many seconds are over; 0: for ever.
    void wait(long seconds) const
    {
        const timespec length{seconds, 0};
        while (sigtimedwait(&signals_, nullptr, seconds > 0 ? &length : nullptr) < 0 && seconds == 0) {
            // interrupted
        }
    }

private:
    sigset_t signals_{};
};

} // namespace

int main(int argc, char **argv)
{
    char *end = nullptr;
    const long seconds = argc == 5 ? std::strtol(argv[4], &end, 10) : 0;
    if (argc < 4 || argc > 5 || (argc == 5 && (*end != '\0' || seconds < 1 || seconds > 1000000))) {
        std::cerr << "usage: observer ENDPOINTS SERVICE ELECTION [SECONDS]\n";
        return 2;
    }
    try {
        const ending signals;
        // open_offline: it has time until etcd comes.
        auto service = tenure::service::open({{"endpoints", argv[1]}, {"service", argv[2]}, {"open_offline", "true"}});
        const auto observer = service.observe(argv[3], print);
        signals.wait(seconds);
        service.close(); // after this no callback runs any more
    } catch (const tenure::error &error) {
        std::cerr << "observer: " << error.name() << ": " << error.what() << '\n';
        return 1;
    } catch (const std::exception &error) {
        std::cerr << "observer: " << error.what() << '\n';
        return 1;
    }
}
