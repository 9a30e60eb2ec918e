// From a conversation to the prompt that a model was trained with.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace vkqat {

struct ChatMessage {
    std::string role;  // "system", "user", "assistant"
    std::string content;
};

struct ChatTemplate {
    std::string source;  // Jinja; empty: Llama 3's format
    std::string bos_token, eos_token;
};

// Llama 3's format as Jinja, for a tokenizer that has its tokens and no template.
extern const char* const llama3_chat_template;

// The template of a model: of a GGUF file, tokenizer.chat_template; of a directory, chat_template.jinja, else `chat_template` of
// tokenizer_config.json, a string or a list of named ones (then that named "default"); where there is none, Llama 3's format. A
// file that is no GGUF file is the template itself. Error where it cannot be parsed.
ChatTemplate load_chat_template(const std::filesystem::path& path, const Tokenizer& tokenizer);

// The prompt as text, start token included: encode it with add_bos = false and parse_special = true. `add_generation_prompt`:
// ends where the assistant's answer begins. A Jinja template comes from outside, so it runs in a process of its own with limits
// on time and memory; Error if it exceeds them, crashes, or raises an exception.
std::string render_chat(const ChatTemplate& chat_template, std::span<const ChatMessage> messages, bool add_generation_prompt);

// A conversation up to its last answer, and where in its text the answers lie.
struct RenderedTurns {
    std::string text;
    std::vector<size_t> cuts;  // for each message of role "assistant", in order, where its answer begins and where it ends
    std::string problem;       // what is wrong; then the rest is empty
};

// The same for many conversations with few processes. An answer begins where the prompt for it ends (the text of the messages
// before it, with add_generation_prompt, as far as both agree), and ends where the text of the conversation up to it does, so the
// tokens that end a turn belong to it. A problem where the text of a conversation's beginning is not the beginning of its text.
std::vector<RenderedTurns> render_turns(const ChatTemplate& chat_template,
                                        std::span<const std::vector<ChatMessage>> conversations);

}  // namespace vkqat
