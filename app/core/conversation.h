// A conversation as a tree: every message has alternatives (its siblings), one of which is chosen at each level. An answer that
// is made again and a turn that is edited become siblings of what stood there; nothing is ever lost.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model/sampling.h"
#include "runtime/text/chat_template.h"

namespace vkqat {

enum class Role { user, assistant };
std::string_view role_name(Role role);

// What an answer cost.
struct AnswerStats {
    int64_t prompt_tokens = 0, cached_tokens = 0, tokens = 0;
    double first_token_seconds = 0, tokens_per_second = 0;
    uint64_t device_bytes = 0;  // that the model takes with its cache
    std::string end;            // "", "stopped", "length", "context", or what failed
    bool operator==(const AnswerStats&) const = default;
};

struct Message {
    int parent = -1;  // -1: begins the conversation. Always less than the message's own number
    int chosen = -1;  // the child that is shown; -1: none yet
    Role role = Role::user;
    std::string content, model;
    int64_t created = 0;  // seconds since 1970
    AnswerStats stats;
};

struct ChatSettings {
    std::string system;
    SamplingChoice sampling;
    int64_t max_tokens = 1024;
    std::string preset;
};

struct Conversation {
    std::string id;  // the file's name without its ending
    std::string title, model, draft;
    bool pinned = false, titled = false;  // titled: by the user; otherwise the title follows the first message
    int64_t created = 0, updated = 0;
    ChatSettings settings;
    int first = -1;                 // the chosen beginning
    std::vector<Message> messages;  // a message's number is its place

    std::vector<int> path() const;                // what is shown, from the beginning to the end
    std::vector<int> path_to(int message) const;  // with `message` as its end
    std::vector<int> siblings(int message) const;
    int add(int parent, Role role, std::string content);  // chosen at once; returns its number
    void choose(int message);                             // with all that leads to it
    size_t bytes() const;
    std::string shown_title() const;
    // The messages that end with `message`, with the system prompt in front.
    std::vector<ChatMessage> prompt(int message) const;
};

Conversation new_conversation();

// The readable file. from_json: Error naming `where` for anything malformed: the file may come from anywhere.
std::string to_json(const Conversation& conversation);
Conversation conversation_from_json(std::string_view json, std::string_view where);

// What is shown, as a text to hand on: title, and each turn under a heading.
std::string to_markdown(const Conversation& conversation);

// Presets of the settings that come with the program, and the user's own, as JSON.
struct Preset {
    std::string name;
    ChatSettings settings;
};
std::vector<Preset> built_in_presets();
std::string presets_to_json(const std::vector<Preset>& presets);
std::vector<Preset> presets_from_json(std::string_view json, std::string_view where);

// Whether `text` holds `query`, without regard to the case of ASCII letters. Its place, or npos.
size_t find_text(std::string_view text, std::string_view query);

}  // namespace vkqat
