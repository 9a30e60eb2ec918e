#include "app/core/conversation.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <random>

#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

int64_t now() {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; }

}  // namespace

std::string_view role_name(Role role) { return role == Role::user ? "user" : "assistant"; }

std::vector<int> Conversation::path() const {
    std::vector<int> result;
    for (int at = first; at >= 0; at = messages[size_t(at)].chosen) result.push_back(at);
    return result;
}

std::vector<int> Conversation::path_to(int message) const {
    std::vector<int> result;
    for (int at = message; at >= 0; at = messages[size_t(at)].parent) result.push_back(at);
    std::reverse(result.begin(), result.end());
    return result;
}

std::vector<int> Conversation::siblings(int message) const {
    std::vector<int> result;
    for (size_t i = 0; i < messages.size(); i++)
        if (messages[i].parent == messages[size_t(message)].parent) result.push_back(int(i));
    return result;
}

int Conversation::add(int parent, Role role, std::string content) {
    Message message;
    message.parent = parent;
    message.role = role;
    message.content = std::move(content);
    message.created = updated = now();
    messages.push_back(std::move(message));
    choose(int(messages.size()) - 1);
    return int(messages.size()) - 1;
}

void Conversation::choose(int message) {
    for (int at = message; at >= 0; at = messages[size_t(at)].parent) {
        const int parent = messages[size_t(at)].parent;
        (parent >= 0 ? messages[size_t(parent)].chosen : first) = at;
    }
}

size_t Conversation::bytes() const {
    size_t total = 0;
    for (const Message& message : messages) total += message.content.size();
    return total;
}

std::string Conversation::shown_title() const {
    if (titled && !title.empty()) return title;
    for (const Message& message : messages) {
        if (message.role != Role::user || message.content.empty()) continue;
        std::string text;
        for (size_t at = 0, count = 0; at < message.content.size() && count < 60; count++) {
            const Utf8Char c = utf8_at(message.content, at);
            if (c.code == '\n') break;
            text.append(message.content, at, c.length);
            at += c.length;
        }
        return text.size() < message.content.find('\n') && text.size() < message.content.size() ? text + "…" : text;
    }
    return "New chat";
}

std::vector<ChatMessage> Conversation::prompt(int message) const {
    std::vector<ChatMessage> result;
    if (!settings.system.empty()) result.push_back({"system", settings.system});
    for (int at : path_to(message))
        result.push_back({std::string(role_name(messages[size_t(at)].role)), messages[size_t(at)].content});
    return result;
}

Conversation new_conversation() {
    Conversation c;
    c.created = c.updated = now();
    std::tm time{};
    const std::time_t seconds = c.created;
    ::localtime_r(&seconds, &time);
    c.id = fmt::format("{:04}{:02}{:02}-{:02}{:02}{:02}-{:08x}", time.tm_year + 1900, time.tm_mon + 1, time.tm_mday, time.tm_hour,
                       time.tm_min, time.tm_sec, std::random_device{}());
    return c;
}

std::string to_markdown(const Conversation& c) {
    std::string text = fmt::format("# {}\n", c.shown_title());
    if (!c.settings.system.empty()) text += fmt::format("\n> System: {}\n", c.settings.system);
    for (int at : c.path()) {
        const Message& m = c.messages[size_t(at)];
        text += fmt::format("\n## {}\n\n{}\n", m.role == Role::user ? "You" : m.model.empty() ? "Assistant" : m.model, m.content);
    }
    return text;
}

std::vector<Preset> built_in_presets() {
    std::vector<Preset> presets(4);
    presets[0].name = "Model's own";
    presets[1].name = "Precise";
    presets[1].settings.sampling.temperature = 0.2;
    presets[1].settings.sampling.top_p = 0.9;
    presets[2].name = "Creative";
    presets[2].settings.sampling.temperature = 1.0;
    presets[2].settings.sampling.min_p = 0.05;
    presets[3].name = "Greedy";
    presets[3].settings.sampling.greedy = true;
    for (Preset& preset : presets) preset.settings.preset = preset.name;
    return presets;
}

size_t find_text(std::string_view text, std::string_view query) {
    if (query.empty()) return 0;
    auto found =
        std::search(text.begin(), text.end(), query.begin(), query.end(), [](char a, char b) { return lower(a) == lower(b); });
    return found == text.end() ? std::string_view::npos : size_t(found - text.begin());
}

}  // namespace vkqat
