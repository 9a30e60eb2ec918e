#include <nlohmann/json.hpp>

#include "app/core/conversation.h"
#include "runtime/support/error.h"

namespace vkqat {
namespace {

using json = nlohmann::ordered_json;
constexpr size_t most_messages = size_t(1) << 20;

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

json settings_json(const ChatSettings& s) {
    json j{{"preset", s.preset}, {"system", s.system}, {"max_tokens", s.max_tokens}, {"greedy", s.sampling.greedy}};
    put(j, "temperature", s.sampling.temperature);
    put(j, "top_k", s.sampling.top_k);
    put(j, "top_p", s.sampling.top_p);
    put(j, "min_p", s.sampling.min_p);
    put(j, "repetition_penalty", s.sampling.repetition_penalty);
    put(j, "seed", s.sampling.seed);
    return j;
}

ChatSettings settings_of(const json& j) {
    ChatSettings s;
    get(j, "preset", s.preset);
    get(j, "system", s.system);
    get(j, "max_tokens", s.max_tokens);
    get(j, "greedy", s.sampling.greedy);
    get(j, "temperature", s.sampling.temperature);
    get(j, "top_k", s.sampling.top_k);
    get(j, "top_p", s.sampling.top_p);
    get(j, "min_p", s.sampling.min_p);
    get(j, "repetition_penalty", s.sampling.repetition_penalty);
    get(j, "seed", s.sampling.seed);
    s.max_tokens = std::clamp<int64_t>(s.max_tokens, 1, int64_t(1) << 24);
    return s;
}

json message_json(const Message& m) {
    json j{
        {"parent", m.parent}, {"chosen", m.chosen}, {"role", role_name(m.role)}, {"content", m.content}, {"created", m.created}};
    if (m.role == Role::assistant) {
        const AnswerStats& s = m.stats;
        j["model"] = m.model;
        j["stats"] = {{"prompt_tokens", s.prompt_tokens},
                      {"cached_tokens", s.cached_tokens},
                      {"tokens", s.tokens},
                      {"first_token_seconds", s.first_token_seconds},
                      {"tokens_per_second", s.tokens_per_second},
                      {"device_bytes", s.device_bytes},
                      {"end", s.end}};
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
    if (auto s = j.find("stats"); s != j.end()) {
        get(*s, "prompt_tokens", m.stats.prompt_tokens);
        get(*s, "cached_tokens", m.stats.cached_tokens);
        get(*s, "tokens", m.stats.tokens);
        get(*s, "first_token_seconds", m.stats.first_token_seconds);
        get(*s, "tokens_per_second", m.stats.tokens_per_second);
        get(*s, "device_bytes", m.stats.device_bytes);
        get(*s, "end", m.stats.end);
    }
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
