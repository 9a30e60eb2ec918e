#include <nlohmann/json.hpp>

#include "app/core/conversation.h"
#include "runtime/support/error.h"

namespace vkqat {
namespace {

using json = nlohmann::ordered_json;
constexpr size_t most_messages = size_t(1) << 20;

// What a value that may be absent is in the file: nothing.
template <class T>
void put(json& to, const char* key, const T& value) {
    to[key] = value;
}
template <class T>
void put(json& to, const char* key, const std::optional<T>& value) {
    if (value) to[key] = *value;
}

template <class T>
void get(const json& from, const char* key, T& value) {
    if (auto found = from.find(key); found != from.end() && !found->is_null()) value = found->get<T>();
}
template <class T>
void get(const json& from, const char* key, std::optional<T>& value) {
    if (auto found = from.find(key); found != from.end() && !found->is_null()) value = found->get<T>();
}

// Every setting of a chat, and every figure of an answer, once for both directions.
template <class S, class Visit>
void settings_members(S& s, Visit&& visit) {
    visit("preset", s.preset);
    visit("system", s.system);
    visit("max_tokens", s.max_tokens);
    visit("greedy", s.sampling.greedy);
    visit("temperature", s.sampling.temperature);
    visit("top_k", s.sampling.top_k);
    visit("top_p", s.sampling.top_p);
    visit("min_p", s.sampling.min_p);
    visit("repetition_penalty", s.sampling.repetition_penalty);
    visit("seed", s.sampling.seed);
}
template <class S, class Visit>
void stats_members(S& s, Visit&& visit) {
    visit("prompt_tokens", s.prompt_tokens);
    visit("cached_tokens", s.cached_tokens);
    visit("tokens", s.tokens);
    visit("first_token_seconds", s.first_token_seconds);
    visit("tokens_per_second", s.tokens_per_second);
    visit("device_bytes", s.device_bytes);
    visit("end", s.end);
}

json settings_json(const ChatSettings& s) {
    json j = json::object();
    settings_members(s, [&](const char* key, const auto& value) { put(j, key, value); });
    return j;
}

ChatSettings settings_of(const json& j) {
    ChatSettings s;
    settings_members(s, [&](const char* key, auto& value) { get(j, key, value); });
    s.max_tokens = std::clamp<int64_t>(s.max_tokens, 1, int64_t(1) << 24);
    return s;
}

json message_json(const Message& m) {
    json j{
        {"parent", m.parent}, {"chosen", m.chosen}, {"role", role_name(m.role)}, {"content", m.content}, {"created", m.created}};
    if (m.role == Role::assistant) {
        j["model"] = m.model;
        json& stats = j["stats"] = json::object();
        stats_members(m.stats, [&](const char* key, const auto& value) { put(stats, key, value); });
    }
    return j;
}

Message message_of(const json& j, int number) {
    Message m;
    m.parent = j.at("parent").get<int>();
    get(j, "chosen", m.chosen);
    const std::string role = j.at("role").get<std::string>();
    if (role != "user" && role != "assistant") fail("message {}: its role is '{}', expected user or assistant", number, role);
    if (m.parent < -1 || m.parent >= number) fail("message {}: its parent {} does not come before it", number, m.parent);
    m.role = role == "user" ? Role::user : Role::assistant;
    m.content = j.at("content").get<std::string>();
    get(j, "model", m.model);
    get(j, "created", m.created);
    if (auto s = j.find("stats"); s != j.end())
        stats_members(m.stats, [&](const char* key, auto& value) { get(*s, key, value); });
    return m;
}

// A child that is chosen must be one; what is not becomes the last child there is.
void repair_choices(Conversation& c) {
    auto is_child = [&](int child, int of) {
        return child >= 0 && child < int(c.messages.size()) && c.messages[size_t(child)].parent == of;
    };
    std::vector<int> last(c.messages.size() + 1, -1);
    for (size_t i = 0; i < c.messages.size(); i++) last[size_t(c.messages[i].parent + 1)] = int(i);
    if (!is_child(c.first, -1)) c.first = last[0];
    for (size_t i = 0; i < c.messages.size(); i++)
        if (!is_child(c.messages[i].chosen, int(i))) c.messages[i].chosen = last[i + 1];
}

template <class Read>
auto reading(std::string_view where, Read&& read) {
    try {
        return read();
    } catch (const nlohmann::json::exception& e) {
        fail("{}: {}", where, e.what());
    } catch (const Error& e) {
        fail("{}: {}", where, e.what());
    }
}

std::string dump(const json& j) { return j.dump(1, ' ', false, json::error_handler_t::replace) + "\n"; }

}  // namespace

std::string to_json(const Conversation& c) {
    json j{{"format", "vkqat conversation"},
           {"version", 1},
           {"title", c.title},
           {"titled", c.titled},
           {"pinned", c.pinned},
           {"created", c.created},
           {"updated", c.updated},
           {"model", c.model},
           {"draft", c.draft},
           {"settings", settings_json(c.settings)},
           {"first", c.first},
           {"messages", json::array()}};
    for (const Message& message : c.messages) j["messages"].push_back(message_json(message));
    return dump(j);
}

Conversation conversation_from_json(std::string_view text, std::string_view where) {
    return reading(where, [&] {
        // Nesting is bounded before parsing: the parser's own recursion is not.
        int depth = 0;
        const json j = json::parse(text, [&](int d, json::parse_event_t, json&) {
            depth = std::max(depth, d);
            if (depth > 64) fail("nested too deeply");
            return true;
        });
        if (!j.is_object() || !j.contains("messages")) fail("is no conversation: it has no \"messages\"");
        int64_t version = 1;
        get(j, "version", version);
        if (version != 1) fail("has version {}, and this program knows version 1", version);
        Conversation c = new_conversation();
        get(j, "title", c.title);
        get(j, "titled", c.titled);
        get(j, "pinned", c.pinned);
        get(j, "created", c.created);
        get(j, "updated", c.updated);
        get(j, "model", c.model);
        get(j, "draft", c.draft);
        if (auto s = j.find("settings"); s != j.end()) c.settings = settings_of(*s);
        get(j, "first", c.first);
        const json& messages = j.at("messages");
        if (!messages.is_array() || messages.size() > most_messages) fail("\"messages\" is no list of at most {}", most_messages);
        const bool tree = j.contains("format");  // otherwise a plain list of turns, as `vkqat chat` saves it
        for (const json& m : messages) {
            const int number = int(c.messages.size());
            if (tree) {
                c.messages.push_back(message_of(m, number));
            } else if (m.at("role") == "system") {
                c.settings.system = m.at("content").get<std::string>();
            } else {
                json copy = m;
                copy["parent"] = number - 1;
                c.messages.push_back(message_of(copy, number));
            }
        }
        repair_choices(c);
        return c;
    });
}

std::string presets_to_json(const std::vector<Preset>& presets) {
    json j = json::array();
    for (const Preset& preset : presets) j.push_back({{"name", preset.name}, {"settings", settings_json(preset.settings)}});
    return dump(j);
}

std::vector<Preset> presets_from_json(std::string_view text, std::string_view where) {
    return reading(where, [&] {
        std::vector<Preset> presets;
        for (const json& j : json::parse(text))
            presets.push_back({j.at("name").get<std::string>(), settings_of(j.at("settings"))});
        return presets;
    });
}

}  // namespace vkqat
