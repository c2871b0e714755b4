/*
 * What leadership alone can't prevent, and what the fencing token is for.
 *
 *     fencing http://127.0.0.1:2379 /tmp/ledger
 *
 * A leader asks whether it leads, and is stopped before it acts: by the scheduler, a debugger, a suspended machine.
 * When it goes on, another has led and written, and the check of before is worth nothing. Only the ledger can tell:
 * it keeps the highest token that it was written with, and refuses lower ones.
 *
 * Two processes play this: `first` leads and is stopped (SIGSTOP) between its check and its write, `second` is elected
 * when the lease of the first is over and writes, then `first` goes on. Ends with 0 if its late write was refused.
 */
#include <tenure.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <system_error>

namespace {

using namespace std::chrono_literals;

[[noreturn]] void fail(const std::string &what)
{
    throw std::system_error(errno, std::generic_category(), what);
}

// The resource: a file of lines, the first of which is the highest token seen. Open and locked while the object lives:
// that makes the check and the write one; a token checked by the caller would not do.
class ledger {
public:
    explicit ledger(const std::string &path) : path_(path), fd_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644))
    {
        if (fd_ < 0)
            fail(path_);
        if (flock(fd_, LOCK_EX) < 0) {
            const int reason = errno;
            close(fd_);
            errno = reason;
            fail(path_);
        }
    }
    ledger(const ledger &) = delete;
    ledger &operator=(const ledger &) = delete;
    ~ledger() { close(fd_); }

    // The highest token that it was written with; 0 if it never was.
    std::int64_t highest() const
    {
        char line[token_bytes];
        const ssize_t got = pread(fd_, line, sizeof line, 0);
        if (got < 0)
            fail(path_);
        return got == token_bytes ? std::strtoll(line, nullptr, 10) : 0; // it ends with the line
    }

    // False: refused, somebody with a higher token was here.
    bool append(std::int64_t token, const std::string &text)
    {
        const std::int64_t highest = this->highest();
        if (token < highest)
            return false;
        // The token first, and safe on the disk: a line without it would let an older leader write behind it.
        if (token > highest) {
            char line[token_bytes + 1];
            std::snprintf(line, sizeof line, "%020lld\n", static_cast<long long>(token));
            write(line, 0);
        }
        const off_t end = lseek(fd_, 0, SEEK_END);
        if (end < 0)
            fail(path_);
        try {
            write(std::to_string(token) + ' ' + text + '\n', end);
        } catch (...) {
            if (ftruncate(fd_, end) < 0) // no half lines
                std::perror("fencing: a line may be incomplete");
            throw;
        }
        return true;
    }

private:
    static constexpr int token_bytes = 21; // 20 digits and the end of the line

    void write(std::string_view text, off_t at)
    {
        while (!text.empty()) {
            const ssize_t written = pwrite(fd_, text.data(), text.size(), at);
            if (written < 0)
                fail(path_);
            text.remove_prefix(static_cast<std::size_t>(written));
            at += written;
        }
        if (fdatasync(fd_) < 0)
            fail(path_);
    }

    std::string path_;
    int fd_;
};

// ---- The leaders. ----

bool write_line(const std::string &who, const std::string &path, std::int64_t token, const std::string &text)
{
    ledger ledger(path);
    const std::int64_t highest = ledger.highest();
    if (ledger.append(token, text)) {
        std::cout << who << ": wrote with token " << token << std::endl;
        return true;
    }
    std::cout << who << ": refused, token " << token << " is older than " << highest << std::endl;
    return false;
}

void expect(bool is_so, const char *else_what)
{
    if (!is_so)
        throw std::runtime_error(else_what);
}

// Leads, looks, and is stopped before it can do what the look allowed.
void be_first(const std::string &who, const tenure::campaign &campaign, const std::string &path)
{
    const std::int64_t token = campaign.token();
    expect(write_line(who, path, token, "the first leader was here"), "the ledger refuses its first leader");
    expect(campaign.is_leader(), "lost leadership too early for this example");
    std::cout << who << ": is the leader; falls asleep before it acts" << std::endl;
    if (raise(SIGSTOP) != 0)
        fail("raise");
    std::cout << who << ": awake, and acts on what it knew" << std::endl;
    expect(!write_line(who, path, token, "the first leader is late"), "the ledger takes a leader of the past");
    expect(!campaign.is_leader(), "claims to lead although another does");
}

void be_second(const std::string &who, const tenure::campaign &campaign, const std::string &path)
{
    expect(write_line(who, path, campaign.token(), "the second leader was here"), "the ledger refuses its leader");
}

using part = void (*)(const std::string &who, const tenure::campaign &campaign, const std::string &path);

void lead(const std::string &who, const std::string &endpoints, const std::string &path, part play)
{
    auto service = tenure::service::open(
        {{"endpoints", endpoints}, {"service", "fencing-example"}, {"ttl", "2s"}, {"value", who}});
    auto campaign = service.campaign("ledger");
    campaign.wait_leader(30s);
    play(who, campaign, path);
    service.close();
}

// ---- The play. ----

// Each leader is a process of its own; the library is used in them only.
class actor {
public:
    actor(const std::string &who, const std::string &endpoints, const std::string &path, part play)
    {
        const pid_t parent = getpid();
        pid_ = fork();
        if (pid_ < 0)
            fail("fork");
        if (pid_ != 0)
            return;
        // Nobody is to be left behind asleep.
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
            _exit(EXIT_FAILURE);
        int status = EXIT_SUCCESS;
        try {
            lead(who, endpoints, path, play);
        } catch (const std::exception &error) {
            std::cerr << who << ": " << error.what() << '\n';
            status = EXIT_FAILURE;
        }
        std::exit(status);
    }

    // Whether it did its part, that is, is asleep or has ended well.
    bool did_well(int options) const
    {
        int status = 0;
        if (waitpid(pid_, &status, options) < 0)
            fail("waitpid");
        return WIFSTOPPED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS);
    }

    void wake() const
    {
        if (kill(pid_, SIGCONT) < 0)
            fail("kill");
    }

private:
    pid_t pid_;
};

} // namespace

int main(int argc, char **argv)
{
    if (argc != 3 || std::string_view(argv[1]).substr(0, 7) == "memory:") {
        std::cerr << "usage: fencing ENDPOINTS LEDGER-FILE   (two processes take part, so it needs an etcd)\n";
        return 2;
    }
    try {
        const actor first("first", argv[1], argv[2], be_first);
        if (!first.did_well(WUNTRACED))
            return EXIT_FAILURE;
        const actor second("second", argv[1], argv[2], be_second);
        const bool is_well = second.did_well(0);
        first.wake();
        return first.did_well(0) && is_well ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception &error) {
        std::cerr << "fencing: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
