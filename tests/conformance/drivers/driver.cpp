// The conformance driver for C++: requests come as JSON lines on standard input, answers and events go as JSON lines to
// standard output. tests/conformance/README.md describes both. No logic beyond naming what tenure.hpp has.
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/wait.h>
#include <tenure.hpp>
#include <thread>
#include <unistd.h>
#include <variant>

#include <nlohmann/json.hpp>

namespace {

using nlohmann::json;
using object = std::variant<std::shared_ptr<tenure::service>, std::shared_ptr<tenure::campaign>,
                            std::shared_ptr<tenure::observer>>;

// What a name stands for. The lock is held while an object is made, so that a callback finds the one that it is called
// for.
std::map<std::string, object> objects;
std::mutex objects_lock;
std::mutex output_lock;

void perform(const json &request);

void write_line(const json &line)
{
    const std::lock_guard held(output_lock);
    std::cout << line.dump() << std::endl;
}

// Bytes travel as text: each byte is the character of that number.
std::string from_bytes(const std::string &bytes)
{
    std::string text;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x80)
            text += static_cast<char>(0xc0 | byte >> 6);
        text += static_cast<char>(byte < 0x80 ? byte : (0x80 | (byte & 0x3f)));
    }
    return text;
}

std::string to_bytes(const json &string)
{
    const auto &text = string.get_ref<const std::string &>();
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); i++) {
        const auto byte = static_cast<unsigned char>(text[i]);
        bytes += byte < 0x80 ? text[i] : static_cast<char>(byte << 6 | (text[++i] & 0x3f));
    }
    return bytes;
}

// The default for null.
tenure::timeout timeout_of(const json &request)
{
    return request.contains("timeout_ms") ? tenure::timeout(std::chrono::milliseconds(request["timeout_ms"]))
                                          : tenure::timeout();
}

std::string election_of(const json &request)
{
    return request.contains("election") ? to_bytes(request["election"]) : std::string();
}

template <class T>
std::shared_ptr<T> find(const json &request, const char *key)
{
    const std::lock_guard held(objects_lock);
    return std::get<std::shared_ptr<T>>(objects.at(request[key]));
}

std::shared_ptr<tenure::campaign> campaign_of(const json &request)
{
    return find<tenure::campaign>(request, "handle");
}

// With the lock held.
template <class T>
void keep(const json &request, T made)
{
    objects.insert_or_assign(request["handle"], std::make_shared<T>(std::move(made)));
}

const char *name_of(tenure::state state)
{
    switch (state) {
    case tenure::state::none: return "NONE";
    case tenure::state::follower: return "FOLLOWER";
    case tenure::state::leader: return "LEADER";
    case tenure::state::error: return "ERROR";
    case tenure::state::closed: return "CLOSED";
    }
    return "UNKNOWN";
}

json candidate(const tenure::candidate &from)
{
    return {{"value", from_bytes(from.value)}, {"token", from.token}, {"key", from_bytes(from.key)}, {"lease", from.lease}};
}

// What is to be called inside of a callback: at the first event of a state, or at an observer's first.
void perform_inside(json &inside, const char *state)
{
    const json requests = inside.value(state, json::array());
    inside.erase(state);
    for (const auto &request : requests)
        perform(request);
}

tenure::status_handler status_handler_for(const json &request)
{
    return [name = request["handle"], inside = request.value("inside", json::object())](
               const tenure::status &status) mutable {
        write_line({{"event", "status"},
                    {"handle", name},
                    {"sequence", status.sequence},
                    {"time_ns", status.time.time_since_epoch().count()},
                    {"election", status.election},
                    {"state", name_of(status.state)},
                    {"reason", tenure::name(status.reason)},
                    {"message", status.message},
                    {"at_risk", status.at_risk},
                    {"value", from_bytes(status.value)},
                    {"token", status.token},
                    {"revision", status.revision},
                    {"deadline_ns", status.deadline ? status.deadline->time_since_epoch().count() : 0},
                    {"cluster", status.cluster_id != 0}});
        perform_inside(inside, name_of(status.state));
    };
}

tenure::observation_handler observation_handler_for(const json &request)
{
    return [name = request["handle"], inside = request.value("inside", json::object())](
               const tenure::observation &seen) mutable {
        write_line({{"event", "observation"},
                    {"handle", name},
                    {"sequence", seen.sequence},
                    {"time_ns", seen.time.time_since_epoch().count()},
                    {"election", seen.election},
                    {"leader", seen.leader ? candidate(*seen.leader) : json()},
                    {"connected", seen.connected},
                    {"closed", seen.closed},
                    {"reason", tenure::name(seen.reason)},
                    {"message", seen.message},
                    {"revision", seen.revision},
                    {"cluster", seen.cluster_id != 0}});
        perform_inside(inside, "OBSERVED");
    };
}

json open(const json &request)
{
    auto options = tenure::options::make();
    for (const auto &pair : request["options"])
        options.set(to_bytes(pair[0]), to_bytes(pair[1]));
    auto service = tenure::service::open(options);
    const std::lock_guard held(objects_lock);
    keep(request, std::move(service));
    return nullptr;
}

json campaign(const json &request)
{
    const auto service = find<tenure::service>(request, "service");
    auto options = tenure::campaign_options::make();
    for (const auto &pair : request["options"])
        options.set(to_bytes(pair[0]), to_bytes(pair[1]));
    if (request.contains("value"))
        options.set_value(to_bytes(request["value"]));
    const std::lock_guard held(objects_lock);
    keep(request, service->campaign(election_of(request), options, status_handler_for(request)));
    return nullptr;
}

json observe(const json &request)
{
    const auto service = find<tenure::service>(request, "service");
    const std::lock_guard held(objects_lock);
    keep(request, service->observe(election_of(request), observation_handler_for(request)));
    return nullptr;
}

json leader(const json &request)
{
    const auto found = find<tenure::service>(request, "service")->leader(election_of(request), timeout_of(request));
    // tenure.hpp says by a value what others say by an error.
    if (!found)
        throw tenure::error(tenure::errc::no_leader, "nobody leads");
    return candidate(*found);
}

json candidates(const json &request)
{
    json list = json::array();
    const auto service = find<tenure::service>(request, "service");
    for (const auto &one : service->candidates(election_of(request), timeout_of(request)))
        list.push_back(candidate(one));
    return list;
}

json close(const json &request)
{
    std::unique_lock held(objects_lock);
    const object named = objects.at(request["handle"]);
    held.unlock();
    if (const auto *observer = std::get_if<std::shared_ptr<tenure::observer>>(&named))
        (*observer)->close();
    else
        std::get<std::shared_ptr<tenure::service>>(named)->close(timeout_of(request));
    return nullptr;
}

json let_go(const json &request)
{
    std::unique_lock held(objects_lock);
    const auto node = objects.extract(request["handle"]);
    held.unlock();
    return nullptr;
}

// The requests are answered by a child process; then this one is, by how the child ended.
json fork_and_perform(const json &request)
{
    const pid_t child = fork();
    if (child == 0) {
        for (const auto &one : request["requests"])
            perform(one);
        _exit(0);
    }
    int ended = 0;
    if (child < 0 || waitpid(child, &ended, 0) != child)
        std::abort();
    return ended;
}

const std::map<std::string, std::function<json(const json &)>> calls = {
    {"open", open},
    {"campaign", campaign},
    {"observe", observe},
    {"leader", leader},
    {"candidates", candidates},
    {"close", close},
    {"free", let_go},
    {"fork", fork_and_perform},
    {"is_leader", [](const json &request) { return json(campaign_of(request)->is_leader()); }},
    {"remaining", [](const json &request) { return json(campaign_of(request)->remaining().count()); }},
    {"token", [](const json &request) { return json(campaign_of(request)->token()); }},
    {"state", [](const json &request) { return json(name_of(campaign_of(request)->state())); }},
    {"wait_leader",
     [](const json &request) {
         campaign_of(request)->wait_leader(timeout_of(request));
         return json();
     }},
    {"proclaim",
     [](const json &request) {
         campaign_of(request)->proclaim(to_bytes(request["value"]), timeout_of(request));
         return json();
     }},
    {"resign",
     [](const json &request) {
         campaign_of(request)->resign(timeout_of(request));
         return json();
     }},
    {"resign_leader",
     [](const json &request) {
         campaign_of(request)->resign_leader(timeout_of(request));
         return json();
     }},
};

void perform(const json &request)
{
    const auto &call = calls.at(request["call"]);
    json line = {{"id", request["id"]}};
    try {
        line["value"] = call(request);
    } catch (const tenure::error &error) {
        line["error"] = error.name();
        line["retriable"] = error.is_retriable();
        line["message"] = error.what();
    }
    write_line(line);
}

} // namespace

int main()
{
    std::ios::sync_with_stdio(false);
    // What was destroyed can't be named any more.
    write_line({{"hello", "C++"}, {"lacks", {"freed handles"}}});
    for (std::string line; std::getline(std::cin, line);) {
        const json request = json::parse(line);
        if (request.value("beside", false))
            std::thread(perform, request).detach();
        else
            perform(request);
    }
    objects.clear();
    return 0;
}
