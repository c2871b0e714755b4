/*
 * A worker that acts only while it leads: of all workers of one election, one at a time.
 *
 *     worker --endpoints http://127.0.0.1:2379 --service shop --election billing --value alpha
 *     worker --endpoints memory://trial --service shop --for 3      (no server; it elects itself)
 *
 * Its arguments, its commands on stdin and the lines it prints are those of examples/c/worker.c, which explains them.
 */
#include <tenure.hpp>

#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <sstream>
#include <system_error>
#include <thread>

namespace {

using namespace std::chrono_literals;

[[noreturn]] void fail(const char *what)
{
    throw std::system_error(errno, std::generic_category(), what);
}

std::int64_t now_ns()
{
    return tenure::boottime_clock::now().time_since_epoch().count();
}

// A file descriptor that is closed in the end.
class descriptor {
public:
    descriptor(int fd, const char *what) : fd_(fd)
    {
        if (fd < 0)
            fail(what);
    }
    descriptor(descriptor &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    descriptor &operator=(descriptor &&) = delete;
    ~descriptor()
    {
        if (fd_ >= 0)
            close(fd_);
    }

    int get() const { return fd_; }

private:
    int fd_;
};

// Prints a line by one write, so that lines of several threads don't mix and none is lost in a buffer.
template <class... Part>
void say(const Part &...parts)
{
    constexpr std::size_t longest = 4096; // PIPE_BUF: so much is written to a pipe in one piece
    std::ostringstream text;
    (text << ... << parts);
    std::string line = text.str().substr(0, longest - 1);
    for (char &letter : line) {
        if (static_cast<unsigned char>(letter) < ' ')
            letter = ' '; // a value may hold anything; a line is a line
    }
    line += '\n';
    for (std::size_t done = 0; done < line.size();) {
        const ssize_t written = write(STDOUT_FILENO, line.data() + done, line.size() - done);
        if (written < 0)
            fail("stdout");
        done += static_cast<std::size_t>(written);
    }
}

void complain(const char *what, const tenure::error &error)
{
    std::cerr << "worker: " << what << ": " << error.name() << ": " << error.what() << '\n';
}

const char *name(tenure::state state)
{
    switch (state) {
    case tenure::state::follower: return "FOLLOWER";
    case tenure::state::leader: return "LEADER";
    case tenure::state::error: return "ERROR";
    case tenure::state::closed: return "CLOSED";
    case tenure::state::none: break;
    }
    return "UNKNOWN";
}

// Runs on the library's callback thread.
void on_event(const tenure::status &status)
{
    const std::int64_t deadline_ns = status.deadline ? status.deadline->time_since_epoch().count() : 0;
    say("event time_ns=", now_ns(), " sequence=", status.sequence, " state=", name(status.state),
        " reason=", tenure::name(status.reason), " token=", status.token, " at_risk=", status.at_risk,
        " deadline_ns=", deadline_ns, " message=", status.message);
}

// The time for which the worker has been leading, as far as it is proved: from after the first look that said so to
// before the latest one.
struct claim {
    std::int64_t token = 0; // 0: none
    std::int64_t start_ns = 0;
    std::int64_t end_ns = 0;

    void print() const { say("claim start_ns=", start_ns, " end_ns=", end_ns, " token=", token); }
};

// Keeps claims where they outlive this process, however it ends.
class claims_file {
public:
    explicit claims_file(const char *path) : file_(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), path) {}

    void store(int number, const claim &claim) const
    {
        // A power of two, so that no line crosses a page: kill -9 can't tear one.
        constexpr std::size_t size = 64;
        char line[size + 1];
        std::snprintf(line, sizeof line, "%20lld %20lld %21lld\n", static_cast<long long>(claim.start_ns),
                      static_cast<long long>(claim.end_ns), static_cast<long long>(claim.token));
        if (pwrite(file_.get(), line, size, static_cast<off_t>(number * size)) != static_cast<ssize_t>(size))
            fail("claims file");
    }

private:
    descriptor file_;
};

struct settings {
    tenure::options options = tenure::options::make({{"service", "worker"}});
    std::string election;
    std::optional<claims_file> claims;
    std::chrono::microseconds poll = 200us;
    std::chrono::seconds length = 0s; // 0: until told to end
};

class worker {
public:
    worker(tenure::service &service, const settings &how) : service_(service), how_(how)
    {
        campaign();
        thread_ = std::thread([this] { work(); });
    }
    worker(const worker &) = delete;
    worker &operator=(const worker &) = delete;
    ~worker()
    {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        thread_.join();
    }

    // False: to quit.
    bool obey(const std::string &command)
    {
        if (command == "resign") {
            const std::int64_t start_ns = now_ns();
            const auto code = attempt("resign", [&] { campaign_->resign(); });
            say("resign start_ns=", start_ns, " time_ns=", now_ns(), " code=", tenure::name(code));
        } else if (command == "campaign") {
            const auto code = attempt("campaign", [&] { campaign(); });
            say("campaign time_ns=", now_ns(), " code=", tenure::name(code));
        } else if (command == "candidates") {
            print_candidates();
        } else if (command == "quit") {
            return false;
        } else if (!command.empty()) {
            std::cerr << "worker: unknown command `" << command
                      << "`; there are resign, campaign, candidates and quit\n";
        }
        return true;
    }

private:
    template <class Call>
    static tenure::errc attempt(const char *what, Call call)
    {
        try {
            call();
            return tenure::errc::ok;
        } catch (const tenure::error &error) {
            complain(what, error);
            return error.code();
        }
    }

    void campaign()
    {
        auto made = std::make_shared<tenure::campaign>(
            service_.campaign(how_.election, {{"rejoin", "true"}, {"at_risk", "true"}}, on_event));
        const std::lock_guard lock(mutex_);
        campaign_ = std::move(made);
    }

    void print_candidates()
    {
        std::vector<tenure::candidate> all;
        const auto code = attempt("candidates", [&] { all = service_.candidates(how_.election); });
        for (std::size_t i = 0; i < all.size(); i++)
            say("candidate place=", i + 1, " token=", all[i].token, " value=", all[i].value);
        say("candidates time_ns=", now_ns(), " code=", tenure::name(code), " count=", all.size());
    }

    // The work: asks before every step whether it leads, and takes that step, which is to note that it may, only then.
    void work()
    {
        claim claim;
        int number = -1;
        for (;;) {
            std::unique_lock lock(mutex_);
            const auto campaign = campaign_;
            const bool stop = stop_;
            lock.unlock();

            const std::int64_t before_ns = now_ns();
            const std::int64_t token = campaign->is_leader() ? campaign->token() : 0;
            const std::int64_t after_ns = now_ns();

            if (token != claim.token) {
                if (claim.token != 0)
                    claim.print();
                claim = {token, after_ns, after_ns};
                if (token != 0) {
                    claim.print();
                    number++;
                    store(number, claim);
                }
            } else if (token != 0 && before_ns > claim.end_ns) {
                claim.end_ns = before_ns;
                store(number, claim);
            }
            if (stop)
                return;
            std::this_thread::sleep_for(how_.poll);
        }
    }

    void store(int number, const claim &claim) const
    {
        if (how_.claims)
            how_.claims->store(number, claim);
    }

    tenure::service &service_;
    const settings &how_;
    std::mutex mutex_; // for the two below, which the work looks at
    std::shared_ptr<tenure::campaign> campaign_;
    bool stop_ = false;
    std::thread thread_;
};

// The whole lines that stdin has.
class commands {
public:
    // -1 after the end: a worker without commands goes on working.
    int fd() const { return fd_; }

    std::vector<std::string> read()
    {
        char some[256];
        const ssize_t got = ::read(fd_, some, sizeof some);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            return {};
        if (got < 0)
            std::perror("worker: stdin");
        if (got <= 0) {
            fd_ = -1;
            return {};
        }
        rest_.append(some, static_cast<std::size_t>(got));
        std::vector<std::string> lines;
        for (std::size_t end; (end = rest_.find('\n')) != std::string::npos; rest_.erase(0, end + 1))
            lines.push_back(rest_.substr(0, end));
        if (rest_.size() >= sizeof some)
            rest_.clear(); // no command is so long
        return lines;
    }

private:
    int fd_ = STDIN_FILENO;
    std::string rest_;
};

// Until a command, a signal or the time says that it is enough.
void run(worker &worker, int signals_fd, std::chrono::seconds length)
{
    commands commands;
    const auto end = tenure::boottime_clock::now() + length;
    for (;;) {
        int timeout_ms = -1;
        if (length > 0s) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - tenure::boottime_clock::now());
            if (left <= 0ms)
                return;
            timeout_ms = left < 60s ? static_cast<int>(left.count()) : 60000;
        }
        pollfd inputs[] = {{commands.fd(), POLLIN, 0}, {signals_fd, POLLIN, 0}};
        if (poll(inputs, 2, timeout_ms) < 0) {
            if (errno == EINTR)
                continue;
            fail("poll");
        }
        if (inputs[1].revents != 0)
            return;
        if (inputs[0].revents == 0)
            continue;
        for (const auto &command : commands.read()) {
            if (!worker.obey(command))
                return;
        }
    }
}

// A descriptor for the signals that end the worker. Blocked before there is any thread, so that all block them.
int catch_signals()
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    errno = pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    return errno != 0 ? -1 : signalfd(-1, &signals, SFD_CLOEXEC);
}

std::int64_t number(const std::string &text)
{
    constexpr std::int64_t highest = 1'000'000'000;
    std::size_t used = 0;
    std::int64_t value = 0;
    try {
        value = std::stoll(text, &used);
    } catch (const std::logic_error &) {
        // used is 0
    }
    if (used == 0 || used != text.size() || value < 1 || value > highest)
        throw std::invalid_argument("`" + text + "` is not a number from 1 to " + std::to_string(highest));
    return value;
}

[[noreturn]] void usage()
{
    throw std::invalid_argument(
        "usage: worker [--endpoints URLS] [--service NAME] [--election NAME] [--value TEXT] [--ttl 10s]\n"
        "              [--option NAME=VALUE]... [--claims FILE] [--poll-us N] [--for SECONDS]\n"
        "--option sets any other option of the service, see docs/options.md.");
}

void set_named_option(tenure::options &options, std::string_view assignment)
{
    const auto equals = assignment.find('=');
    if (equals == std::string_view::npos)
        usage();
    options.set(assignment.substr(0, equals), assignment.substr(equals + 1));
}

settings parse(int argc, char **argv)
{
    static const option known[] = {
        {"endpoints", required_argument, nullptr, 'e'}, {"service", required_argument, nullptr, 's'},
        {"election", required_argument, nullptr, 'l'},  {"value", required_argument, nullptr, 'v'},
        {"ttl", required_argument, nullptr, 't'},       {"option", required_argument, nullptr, 'o'},
        {"claims", required_argument, nullptr, 'c'},    {"poll-us", required_argument, nullptr, 'p'},
        {"for", required_argument, nullptr, 'f'},       {nullptr, 0, nullptr, 0},
    };
    settings how;
    const char *claims = nullptr;
    int letter, place;
    while ((letter = getopt_long(argc, argv, "", known, &place)) != -1) {
        switch (letter) {
        case 'e': case 's': case 'v': case 't': how.options.set(known[place].name, optarg); break;
        case 'o': set_named_option(how.options, optarg); break;
        case 'l': how.election = optarg; break;
        case 'c': claims = optarg; break;
        case 'p': how.poll = std::chrono::microseconds(number(optarg)); break;
        case 'f': how.length = std::chrono::seconds(number(optarg)); break;
        default: usage();
        }
    }
    if (optind < argc)
        usage();
    if (claims != nullptr)
        how.claims.emplace(claims);
    return how;
}

} // namespace

int main(int argc, char **argv)
{
    try {
        const settings how = parse(argc, argv);
        const descriptor signals(catch_signals(), "signals");
        auto service = tenure::service::open(how.options);
        worker worker(service, how);
        run(worker, signals.get(), how.length);
        // Withdraws, so that the others don't have to wait until the lease is over.
        service.close();
    } catch (const tenure::error &error) {
        std::cerr << "worker: " << error.name() << ": " << error.what() << '\n';
        return 1;
    } catch (const std::exception &error) {
        std::cerr << "worker: " << error.what() << '\n';
        return 1;
    }
}
